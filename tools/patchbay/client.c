// SPDX-License-Identifier: BSD-3-Clause
#include "client.h"

#include "batch.h"
#include "field.h"
#include "output.h"
#include "text.h"

#include <curl/curl.h>
#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// An answer larger than this is no answer of patchbayd: a page of the largest
// objects is a few megabytes.
enum { ANSWER_BYTES_MAX = 64 << 20 };

// Pages of one list. The daemon makes them as large as it likes to, 1,000
// objects; this is far above every limit.
enum { PAGES_MAX = 1000 };

struct answer {
    char *bytes;
    size_t size;
};

static size_t take_answer(char *bytes, size_t unit, size_t count, void *context)
{
    struct answer *answer = context;
    size_t size = unit * count;
    if (size > ANSWER_BYTES_MAX - answer->size)
        return 0;
    char *grown = realloc(answer->bytes, answer->size + size + 1);
    if (grown == NULL)
        return 0;
    answer->bytes = grown;
    memcpy(answer->bytes + answer->size, bytes, size);
    answer->size += size;
    return size;
}

const char *client_path(const char *segment, ...)
{
    char *path = text_format("/v1");
    va_list segments;
    va_start(segments, segment);
    for (; segment != NULL; segment = va_arg(segments, const char *)) {
        char *escaped = curl_easy_escape(NULL, segment, 0);
        path = text_format("%s/%s", path, escaped == NULL ? "" : escaped);
        curl_free(escaped);
    }
    va_end(segments);
    return path;
}

const char *client_query(const char *path, const char *key, const char *value)
{
    char *escaped = curl_easy_escape(NULL, value, 0);
    char *longer =
        text_format("%s%c%s=%s", path, strchr(path, '?') == NULL ? '?' : '&', key, escaped == NULL ? "" : escaped);
    curl_free(escaped);
    return longer;
}

bool client_ok(const struct reply *reply)
{
    return reply->status >= 200 && reply->status <= 299;
}

void client_clear(struct reply *reply)
{
    json_decref(reply->body);
    *reply = (struct reply){0};
}

static CURL *open_curl(struct client *client)
{
    if (client->curl == NULL) {
        curl_global_init(CURL_GLOBAL_NOTHING);
        client->curl = curl_easy_init();
    }
    if (client->curl == NULL)
        errx(EXIT_REFUSED, "out of memory");
    CURL *curl = client->curl;
    // The connection is kept from request to request; all else starts afresh.
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->socket);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    // http_proxy of the environment must not get in between.
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)client->timeout_s * 1000);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "patchbay/" PATCHBAY_VERSION);
    return curl;
}

// Decodes the answer. Patchbayd answers in JSON always, so anything else is
// somebody else's, or a broken one.
static int decode_answer(const struct client *client, const struct answer *answer, const char *path,
                         struct reply *reply)
{
    json_error_t error;
    reply->body = json_loadb(answer->bytes == NULL ? "" : answer->bytes, answer->size, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(reply->body))
        return EXIT_DONE;
    if (reply->body == NULL)
        output_complain("the answer at %s to %s (HTTP %ld) is not JSON: %s. Is this patchbayd's socket (--socket)?",
                        text_clean(client->socket), path, reply->status, text_clean(error.text));
    else
        output_complain("the answer at %s to %s (HTTP %ld) is JSON, but no object. Is this patchbayd's socket "
                        "(--socket)?",
                        text_clean(client->socket), path, reply->status);
    client_clear(reply);
    return EXIT_UNREACHED;
}

int client_send(struct client *client, const char *method, const char *path, const json_t *body, unsigned flags,
                struct reply *reply)
{
    if (client->batch != NULL)
        return batch_send(client, method, path, body, flags, reply);
    client_clear(reply);
    CURL *curl = open_curl(client);
    struct answer answer = {0};
    char problem[CURL_ERROR_SIZE] = "";
    char *sent = body == NULL ? NULL : text_keep(json_dumps(body, JSON_COMPACT));
    // "Expect: 100-continue" would cost a round trip for larger bodies.
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    headers = curl_slist_append(headers, "Accept: application/json");
    if (sent != NULL)
        headers = curl_slist_append(headers, "Content-Type: application/json");
    if (flags & CLIENT_CREATE_ONLY)
        headers = curl_slist_append(headers, "If-None-Match: *");
    if (client->if_match != NULL)
        headers = curl_slist_append(headers, text_format("If-Match: %s", client->if_match));
    curl_easy_setopt(curl, CURLOPT_URL, text_format("http://localhost%s", path));
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    if (sent != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(sent));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, sent);
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    CURLcode outcome = curl_easy_perform(curl);
    curl_slist_free_all(headers);
    int code = EXIT_DONE;
    if (outcome == CURLE_OPERATION_TIMEDOUT) {
        if (!client->quiet)
            output_complain("patchbayd did not answer within %u s (--timeout).%s", client->timeout_s,
                            strcmp(method, "GET") == 0 ? "" : " It may still make the change: see `patchbay show`.");
        code = EXIT_UNREACHED;
    } else if (outcome != CURLE_OK) {
        if (!client->quiet)
            client_explain_unreached(client, *problem != '\0' ? problem : curl_easy_strerror(outcome));
        code = EXIT_UNREACHED;
    } else {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply->status);
        code = decode_answer(client, &answer, path, reply);
    }
    free(answer.bytes);
    return code;
}

// ---- answers without end ----

struct follow {
    CURL *curl;
    struct answer rest; // of the last line, or of a refusal
    bool (*take)(void *context, const char *line);
    void *context;
    bool stopped; // by take
};

static size_t follow_answer(char *bytes, size_t unit, size_t count, void *context)
{
    struct follow *follow = context;
    long status = 0;
    char *line, *end;
    size_t taken = take_answer(bytes, unit, count, &follow->rest);
    curl_easy_getinfo(follow->curl, CURLINFO_RESPONSE_CODE, &status);
    if (taken == 0 || status != 200)
        return taken;
    follow->rest.bytes[follow->rest.size] = '\0';
    for (line = follow->rest.bytes; !follow->stopped && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        follow->stopped = !follow->take(follow->context, line);
    }
    follow->rest.size -= (size_t)(line - follow->rest.bytes);
    memmove(follow->rest.bytes, line, follow->rest.size);
    return follow->stopped ? 0 : taken;
}

int client_follow(struct client *client, const char *path, unsigned silence_s,
                  bool (*take)(void *context, const char *line), void *context, struct reply *reply)
{
    client_clear(reply);
    struct follow follow = {.curl = open_curl(client), .take = take, .context = context};
    char problem[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(follow.curl, CURLOPT_URL, text_format("http://localhost%s", path));
    curl_easy_setopt(follow.curl, CURLOPT_TIMEOUT_MS, 0L);
    curl_easy_setopt(follow.curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(follow.curl, CURLOPT_LOW_SPEED_TIME, (long)silence_s);
    curl_easy_setopt(follow.curl, CURLOPT_ERRORBUFFER, problem);
    curl_easy_setopt(follow.curl, CURLOPT_WRITEFUNCTION, follow_answer);
    curl_easy_setopt(follow.curl, CURLOPT_WRITEDATA, &follow);
    CURLcode outcome = curl_easy_perform(follow.curl);
    int code = EXIT_DONE;
    if (outcome != CURLE_OK && !follow.stopped) {
        if (!client->quiet)
            client_explain_unreached(client, *problem != '\0' ? problem : curl_easy_strerror(outcome));
        code = EXIT_UNREACHED;
    } else {
        curl_easy_getinfo(follow.curl, CURLINFO_RESPONSE_CODE, &reply->status);
        if (reply->status != 200)
            code = decode_answer(client, &follow.rest, path, reply);
    }
    free(follow.rest.bytes);
    return code;
}

int client_do(struct client *client, const char *method, const char *path, const json_t *body, unsigned flags,
              struct reply *reply)
{
    int code = client_send(client, method, path, body, flags, reply);
    if (code != EXIT_DONE || client_ok(reply))
        return code;
    return client_refused(client, reply);
}

int client_list(struct client *client, const char *path, json_t **items, json_t **page)
{
    struct reply reply = {0};
    json_t *all = json_array();
    const char *next = NULL;
    int code = EXIT_DONE;
    for (unsigned pages = 0; all != NULL && pages < PAGES_MAX; pages++) {
        const char *where = next == NULL ? path : client_query(path, "after", next);
        code = client_do(client, "GET", where, NULL, 0, &reply);
        if (code != EXIT_DONE)
            break;
        size_t i;
        json_t *item;
        json_array_foreach(field_get(reply.body, "items"), i, item) if (json_is_object(item))
            json_array_append(all, item);
        const char *after = field_text(reply.body, "next", NULL);
        if (after == NULL || (next != NULL && strcmp(after, next) == 0))
            break;
        next = text_format("%s", after);
    }
    if (all == NULL)
        errx(EXIT_REFUSED, "out of memory");
    if (code == EXIT_DONE && page != NULL) {
        *page = field_object();
        field_set(*page, "items", json_incref(all));
        field_set_text(*page, "next", NULL);
        field_set(*page, "generation", json_integer((json_int_t)field_count(reply.body, "generation")));
    }
    client_clear(&reply);
    if (code == EXIT_DONE)
        *items = all;
    else
        json_decref(all);
    return code;
}

void client_close(struct client *client)
{
    if (client->curl != NULL) {
        curl_easy_cleanup(client->curl);
        curl_global_cleanup();
    }
    client->curl = NULL;
}
