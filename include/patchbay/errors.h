// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_ERRORS_H
#define PATCHBAY_ERRORS_H

#include "limits.h"

// The API's error codes: symbol, code in the body, HTTP status, what it means.
// Codes are stable; messages are not. 472 has no phrase of its own in HTTP, so
// clients go by the code.
#define PATCHBAY_ERRORS(X)                                                                           \
    X(MALFORMED, "Malformed", 400, "the request is not what the API describes")                      \
    X(UNKNOWN_FIELD, "UnknownField", 400, "the object has no such field")                            \
    X(BAD_VALUE, "BadValue", 400, "a field has a value it can't have")                               \
    X(FORBIDDEN, "Forbidden", 403, "this user may only read, or nothing")                            \
    X(NOT_FOUND, "NotFound", 404, "no such object")                                                  \
    X(NO_SUCH_PATH, "NoSuchPath", 404, "the API has no such path; the message names the nearest")    \
    X(METHOD, "MethodNotAllowed", 405, "the path does not take this method")                         \
    X(EXISTS, "Exists", 412, "If-None-Match: * and the object exists")                               \
    X(STALE, "Stale", 412, "If-Match names an older generation")                                     \
    X(IN_USE, "InUse", 409, "the object is still used")                                              \
    X(PORT_IN_USE, "PortInUse", 409, "the port already has a use that excludes this one")            \
    X(NO_SUCH_REF, "NoSuchReference", 409, "a field names an object that does not exist")            \
    X(SAME_PORT, "SamePort", 409, "the two ends are the same port")                                  \
    X(VLAN_TAKEN, "VlanTaken", 409, "another port of the vif has this tag")                          \
    X(TARGET_IN_USE, "TargetInUse", 409, "another vif has this path, address or interface")          \
    X(IMMUTABLE, "Immutable", 409, "the field can't change; delete and create again")                \
    X(BUMP_NEEDS_OUT, "BumpNeedsOut", 409, "mode bump needs an out_port")                            \
    X(BUMP_DOWN, "BumpDown", 409, "an arm is down and on_failure is closed")                         \
    X(LIMIT_REACHED, "LimitReached", 409, "a limit of Patchbay is reached")                          \
    X(PATH_IN_USE, "PathInUse", 409, "somebody listens on the socket path")                          \
    X(NOT_A_SOCKET, "NotASocket", 409, "the path exists and is no socket")                           \
    X(DEVICE_FAILED, "DeviceFailed", 409, "the device can't be made")                                \
    X(TOO_LARGE, "TooLarge", 413, "the request is too large or too deep")                            \
    X(PRECONDITION_REQUIRED, "PreconditionRequired", 428, "the request needs If-Match, or ?force=1") \
    X(HEADERS_TOO_LARGE, "HeadersTooLarge", 431, "the request's headers are too large")              \
    X(CAP_READ_ONLY, "CapReadOnly", 405, "the key is only read")                                     \
    X(CAP_NOT_SUPPORTED, "CapNotSupported", 472, "not supported here")                               \
    X(INTERNAL, "Internal", 500, "a bug: please report it")                                          \
    X(UNAVAILABLE, "Unavailable", 503, "the daemon is starting, stopping or overloaded")             \
    X(STORAGE_FULL, "StorageFull", 507, "the state could not be written; nothing was changed")

#define PATCHBAY_ERROR_ENUM(symbol, code, status, help) PATCHBAY_ERROR_##symbol,
enum patchbay_error { PATCHBAY_OK = 0, PATCHBAY_ERRORS(PATCHBAY_ERROR_ENUM) PATCHBAY_ERROR_COUNT };

#endif
