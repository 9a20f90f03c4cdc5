#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""docs/openapi.yaml: what the daemon prints, valid OpenAPI, and true: the real answers of every route, errors included,
and the requests that were taken, with their parameters, bodies and operations, checked against it with
python3-jsonschema. What the daemon refuses as unknown the document must refuse, too.

`PATCHBAYD=… test_openapi.py --update` writes the committed file anew. The answers are those that the modules in RECORDED
provoke; a new route fails here until one of them asks it.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import unittest
import urllib.parse
import warnings
from pathlib import Path
from typing import Any

# Debian's Python packages, also where python3 is another one of the same version.
sys.path.append("/usr/lib/python3/dist-packages")
try:
    import jsonschema
    import yaml
except ImportError as error:
    print(f"skipped: {error}: apt-get install python3-jsonschema python3-yaml")
    sys.exit(77)

import harness

warnings.filterwarnings("ignore", category=DeprecationWarning, module=__name__)  # RefResolver, in later versions

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"
OFFICIAL = Path("/usr/share/openapi-specification/schemas/v3.0/schema.json")
RECORDED = ("test_objects", "test_conf", "test_server.Server.test_large_requests", "test_server.Server.test_large_headers",
            "test_group.FullDisk.test_nothing_changes_when_the_disk_is_full", "test_events.Events.test_quota_of_its_own")
# All keys of the host and of networks are only read: nobody can have these succeed.
NEVER_DONE = {(method, path) for method in ("put", "delete") for path in ("/v1/conf/{key}", "/v1/networks/{net}/conf/{key}")}
# An error of the daemon's own; none is known.
NEVER_SEEN = {"500"}
METHODS = ("get", "put", "post", "patch", "delete")


def dump() -> str:
    done = subprocess.run([harness.BINARY, "--dump-openapi"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout


def to_json_schema(node: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema says a type more."""
    if isinstance(node, list):
        return [to_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: to_json_schema(value) for key, value in node.items() if key != "nullable"}
    if node.get("nullable") is True:
        if "type" in out:
            out["type"] = [out["type"], "null"]
        else:
            out = {"anyOf": [{"type": "null"}, out]}
    return out


class Description:
    def __init__(self, text: str) -> None:
        self.document = yaml.safe_load(text)
        self.schemas = to_json_schema(self.document)
        self.resolver = jsonschema.RefResolver("", self.schemas)
        self.paths = [(path, re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path)) + "$"), operations)
                      for path, operations in self.schemas["paths"].items()]

    def find(self, method: str, path: str) -> tuple[str, dict[str, Any]] | None:
        """The operation that a request is."""
        found = [(template, operations) for template, pattern, operations in self.paths
                 if pattern.match(path) and method in operations]
        # "/conf/x" may be a key's path and a name's: the one with fewer names is meant.
        return min(((t, o[method]) for t, o in found), key=lambda pair: pair[0].count("{"), default=None)

    def resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        return self.resolver.resolve(node["$ref"])[1] if "$ref" in node else node

    def check(self, value: Any, schema: dict[str, Any], what: str) -> None:
        validator = jsonschema.Draft4Validator(schema, resolver=self.resolver, format_checker=jsonschema.FormatChecker())
        wrong = [f"{'/'.join(str(part) for part in error.absolute_path)}: {error.message}" for error in validator.iter_errors(value)]
        if wrong:
            raise AssertionError(f"{what} isn't as docs/openapi.yaml says:\n  " + "\n  ".join(wrong[:5]))


    def check_query(self, operation: dict[str, Any], query: str, what: str) -> None:
        known = {p["name"]: p["schema"] for p in operation["parameters"] if p["in"] == "query"}
        for name, text in urllib.parse.parse_qsl(query, keep_blank_values=True):
            if name not in known:
                raise AssertionError(f"{what}: docs/openapi.yaml has no parameter {name}")
            value = int(text) if known[name].get("type") == "integer" and text.isdigit() else text
            if known[name].get("type") == "boolean":
                value = {"1": True, "true": True, "0": False, "false": False}.get(text, text)
            self.check(value, known[name], f"{name} of {what}")

    def check_request(self, method: str, path: str, body: Any, what: str) -> None:
        """A request, or an operation of a transaction."""
        plain, _, query = path.partition("?")
        found = self.find(method.lower(), described(plain))
        if found is None:
            raise AssertionError(f"{what}: docs/openapi.yaml has no such operation")
        self.check_query(found[1], query, what)
        if body is None:
            return
        if "requestBody" not in found[1]:
            raise AssertionError(f"{what}: docs/openapi.yaml knows of no body")
        self.check(body, found[1]["requestBody"]["content"]["application/json"]["schema"], f"the body of {what}")
        for operation in body.get("operations", []) if found[0] == "/v1/transactions" else []:
            self.check_request(operation["method"], operation["path"], operation.get("body"), f"{operation} of {what}")


def described(path: str) -> str:
    """Paths of conf may end in a slash and have a VIF; they mean the described ones."""
    return re.sub("/VIF/conf", "/vif/conf", re.sub("(/conf(?:/[^/]+)?)/$", r"\1", path))


def refuse_a_reader() -> None:
    """A change by a user of the group that may only read."""
    daemon = harness.Daemon("--read-group", "64102")
    groups = os.getgroups()
    try:
        os.chmod(daemon.dir, 0o755)
        client = daemon.connect()
        os.setgroups([64102])
        os.setegid(64001)
        os.seteuid(64001)
        try:
            client.connect()
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)
        harness.ask(client, "PUT", "/v1/vifs/v", {"kind": "none"})
        client.close()
    finally:
        daemon.close()


class OpenApi(unittest.TestCase):
    def test_the_committed_file_is_what_the_daemon_prints(self) -> None:
        self.assertEqual(COMMITTED.read_text(), dump(), "docs/openapi.yaml is stale: tests/control/test_openapi.py --update")

    def test_it_is_valid(self) -> None:
        if not OFFICIAL.exists():
            self.skipTest("no openapi-specification: apt-get install openapi-specification")
        description = Description(COMMITTED.read_text())
        jsonschema.Draft4Validator(json.loads(OFFICIAL.read_text())).validate(description.document)
        ids: list[str] = []
        for path, operations in description.document["paths"].items():
            for method, operation in operations.items():
                ids.append(operation["operationId"])
                names = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
                self.assertEqual(names, re.findall(r"\{(\w+)\}", path))
                self.assertTrue(operation["summary"], (method, path))
                self.assertEqual(len({(p["name"], p["in"]) for p in operation["parameters"]}), len(operation["parameters"]), path)
        self.assertEqual(len(ids), len(set(ids)))

        def references(node: Any) -> list[str]:
            if isinstance(node, list):
                return [r for item in node for r in references(item)]
            if not isinstance(node, dict):
                return []
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [r for value in node.values() for r in references(value)]
        used = set(references(description.document))
        for reference in used:
            description.resolver.resolve(reference)  # raises where it leads nowhere
        for name in description.document["components"]["schemas"]:
            if not name.startswith("Network") or name in ("Network", "NetworkPut"):
                self.assertIn(f"#/components/schemas/{name}", used, "a schema that nothing uses")
        for name, schema in description.schemas["components"]["schemas"].items():
            with self.subTest(schema=name):
                jsonschema.Draft4Validator.check_schema(schema)

    def test_the_check_sees_what_is_wrong(self) -> None:
        description = Description(COMMITTED.read_text())
        schema = {"$ref": "#/components/schemas/Drain"}
        description.check({"late": 0, "unreturned": 1}, schema, "a drain")
        for bad in ({"late": 0}, {"late": "0", "unreturned": 1}, {"late": 0, "unreturned": 1, "more": 2}, None):
            with self.subTest(bad=bad), self.assertRaises(AssertionError):
                description.check(bad, schema, "a drain")

    def test_a_vif_is_one_of_its_kinds(self) -> None:
        """What a generated client makes of `oneOf` and its discriminator: which kind has which field."""
        description = Description(COMMITTED.read_text())
        schemas = description.schemas["components"]["schemas"]
        fields = {"vhost": "path", "vhost-server": "path", "dev": "devargs", "kernel-new": "interface", "none": None}
        for form in ("", "Put", "Config", "ConfigPut"):
            union = schemas["Vif" + form]
            mapping = union["discriminator"]["mapping"]
            self.assertEqual((union["discriminator"]["propertyName"], set(mapping)), ("kind", set(fields)))
            self.assertEqual([choice["$ref"] for choice in union["oneOf"]], list(mapping.values()))
            for kind, reference in mapping.items():
                variant = description.resolver.resolve(reference)[1]
                self.assertEqual(variant["properties"]["kind"]["enum"], [kind])
                self.assertEqual({"path", "devargs", "interface"} & set(variant["properties"]), {fields[kind]} - {None})
                self.assertLessEqual({"kind", fields[kind]} - {None}, set(variant["required"]))
        for kind, field in fields.items():
            put = {"kind": kind, **({field: "x"} if field else {})}
            description.check(put, schemas["VifPut"], kind)
            for wrong in ({"kind": kind, "path" if field != "path" else "devargs": "x"}, {**put, "colour": 1}, {**put, "kind": "no"}):
                with self.subTest(wrong=wrong), self.assertRaises(AssertionError):
                    description.check(wrong, schemas["VifPut"], kind)

    def test_every_answer(self) -> None:
        """Runs the tests in RECORDED, looking at each answer that they get."""
        description = Description(COMMITTED.read_text())
        seen: dict[tuple[str, str], set[int]] = {}
        plain, count, taken, unknown, wrong = harness.ask, 0, 0, 0, []

        def ask(connection: Any, method: str, path: str, body: Any = None, headers: Any = None) -> harness.Answer:
            nonlocal count, taken, unknown
            answer = plain(connection, method, path, body, headers)
            if method == "HEAD":
                # The answer to GET would have no end: that to HEAD stands for it.
                if path == "/v1/events":
                    seen.setdefault(("get", path), set()).add(answer.status)
                return answer
            what = f"{method} {path}: {answer.status} {answer.body[:300]!r}"
            found = description.find(method.lower(), described(path.partition("?")[0]))
            count += 1
            try:
                if found is None:  # no such path or method: an error as everywhere
                    operation = {"responses": {str(answer.status): {"$ref": f"#/components/responses/Error{answer.status}"}}}
                else:
                    seen.setdefault((method.lower(), found[0]), set()).add(answer.status)
                    operation = found[1]
                self.assertIn(str(answer.status), operation["responses"], what)
                if answer.status == 304:
                    self.assertEqual((answer.body, answer.headers["Content-Type"]), (b"", None), what)
                    return answer
                content = description.resolve(operation["responses"][str(answer.status)])["content"]
                kind = answer.headers["Content-Type"].partition(";")[0]
                self.assertIn(kind, {name.partition(";")[0] for name in content}, what)
                if kind == "application/json":
                    description.check(answer.json, content[kind]["schema"], what)
                # What was taken must have been allowed, what is unknown must be so to both.
                if found is not None and (answer.status < 300 or (kind == "application/json" and answer.code == "UnknownField")):
                    given = json.loads(body) if isinstance(body, (str, bytes)) else body
                    try:
                        description.check_request(method, path, given, what)
                        allowed = ""
                    except AssertionError as failure:
                        allowed = str(failure)
                    if answer.status < 300:
                        self.assertEqual(allowed, "", what)
                        taken += 1
                    else:
                        self.assertNotEqual(allowed, "", f"docs/openapi.yaml allows what is unknown: {what}")
                        unknown += 1
            except AssertionError as failure:
                wrong.append(str(failure))
            return answer

        harness.ask = ask
        try:
            for module in RECORDED:
                suite = unittest.defaultTestLoader.loadTestsFromName(module)
                result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
                self.assertEqual([str(test) + text for test, text in result.failures + result.errors], [])
            if os.geteuid() == 0:
                refuse_a_reader()
        finally:
            harness.ask = plain
        self.assertEqual(wrong[:5], [], f"{len(wrong)} answers aren't as described")
        print(f"{count} answers, {taken} requests that were taken, {unknown} with what is unknown, {len(seen)} operations")
        self.assertGreater(unknown, 5)
        promised = {status for _, _, operations in description.paths for one in operations.values() for status in one["responses"]}
        missing = NEVER_SEEN if os.geteuid() == 0 else NEVER_SEEN | {"403"}
        self.assertEqual(promised - {str(status) for statuses in seen.values() for status in statuses}, missing,
                         f"let a test in {', '.join(RECORDED)} (or one more in RECORDED) see the others")
        for path, operations in description.document["paths"].items():
            for method in operations:
                statuses = seen.get((method, path), set())
                who = f"{method.upper()} {path}: let a test in {', '.join(RECORDED)} (or one more in RECORDED) "
                if (method, path) not in NEVER_DONE:
                    self.assertTrue(any(status < 300 for status in statuses), who + "have it succeed")
                if "{" in path:
                    self.assertTrue(any(status >= 400 for status in statuses), who + "see it refuse something")


if __name__ == "__main__":
    if sys.argv[1:] == ["--update"]:
        COMMITTED.write_text(dump())
    else:
        os.chdir(Path(__file__).resolve().parent)
        unittest.main(verbosity=2)
