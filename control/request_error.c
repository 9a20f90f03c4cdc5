// SPDX-License-Identifier: BSD-3-Clause
// Refusals and users as JSON.

#include "request.h"

#include <string.h>

json_t *request_encode_user(const struct user *user)
{
    switch (user->as) {
    case USE_PORT_VIF:
    case USE_NETWORK_PORT:
        return json_pack("{s:s, s:s, s:s}", "kind", "port", "network", user->network, "port", user->name);
    case USE_NETWORK_WIRE:
        return json_pack("{s:s, s:s, s:s}", "kind", "wire", "network", user->network, "wire", user->name);
    case USE_WIRE_A:
    case USE_WIRE_B:
        return json_pack("{s:s, s:s, s:s, s:s}", "kind", "wire", "network", user->network, "wire", user->name, "as",
                         user->as == USE_WIRE_A ? "a" : "b");
    default:
        return json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind", "tee", "network", user->network, "wire", user->name,
                         "tee", user->tee, "as", user->as == USE_TEE_PORT ? "port" : "out_port");
    }
}

json_t *request_encode_use(const struct use *use)
{
    struct user user = {.as = use->as};
    strlcpy(user.network, use->user->network, sizeof(user.network));
    strlcpy(user.name, use->user->name, sizeof(user.name));
    strlcpy(user.tee, use->tee != NULL ? use->tee->object.name : "", sizeof(user.tee));
    return request_encode_user(&user);
}

static json_t *encode_details(const struct error *error)
{
    if (error->user_total == 0)
        return json_null();
    json_t *users = json_array();
    for (size_t i = 0; i < error->user_count; i++)
        json_array_append_new(users, request_encode_user(&error->users[i]));
    if (error->user_total == error->user_count)
        return json_pack("{s:o}", "used_by", users);
    return json_pack("{s:o, s:I}", "used_by", users, "total", (json_int_t)error->user_total);
}

json_t *request_encode_error(const struct error *error)
{
    // `s?` writes null for NULL: the API always shows both. Only a transaction's refusal has an index.
    json_t *json =
        json_pack("{s:{s:s, s:s, s:s?, s:o}}", "error", "code", error_code_name(error->code), "message", error->message,
                  "field", error->field[0] != '\0' ? error->field : NULL, "details", encode_details(error));
    if (json != NULL && error->index >= 0)
        json_object_set_new(json_object_get(json, "error"), "index", json_integer(error->index));
    return json;
}
