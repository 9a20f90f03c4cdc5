// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_BATCH_H
#define PATCHBAY_BATCH_H

// Many changes in one step: a transaction's operations, or what makes the
// state the one that a whole configuration describes. A batch is a command
// like any other (command.h); what differs stands here: its items stay text
// until their turn (slicer.h), it may need many devices, and it is undone whole.
//
// Control thread only.

#include "command.h"
#include "compile.h"
#include "slicer.h"

enum batch_kind { BATCH_TRANSACTION, BATCH_CONFIG };

// What an item did; the first three are enum change_result.
enum batch_result {
    BATCH_SAME = CHANGE_SAME,
    BATCH_UPDATED = CHANGE_UPDATED,
    BATCH_CREATED = CHANGE_CREATED,
    BATCH_DELETED,
    BATCH_RESULT_COUNT
};

// A new vif of the batch: of which item, and its device once that is made.
struct batch_vif {
    vif_slot slot;
    size_t item;
    struct device *device;
    char name[LIMIT_NAME_LEN + 1];
};

struct batch_vifs {
    size_t count, room;
    struct batch_vif *items; // devices: sorted by name
};

// Which item has made the records of the change up to one.
struct batch_owner {
    size_t end, item;
};

// What an operation of a transaction says of drains: it holds for the records of the change that it made.
struct batch_options {
    size_t begin, end; // records of the change
    struct command_options options;
};

struct batch {
    enum batch_kind kind;
    bool dry_run;
    struct slice *items; // in the exchange's body
    size_t count, room;
    size_t sections[OBJECT_KIND_COUNT + 1]; // CONFIG: where the items of each kind begin

    // What the last step came to; made anew by the next.
    uint8_t *results; // TRANSACTION: enum batch_result, by item
    size_t tally[BATCH_RESULT_COUNT];
    char *plan; // CONFIG: the changes as JSON, without brackets; owned
    size_t plan_size;
    struct batch_vifs fresh; // vifs that it makes and that have no device yet
    vif_slot *removed;       // whose devices go; in the order of their removal
    size_t removed_count, removed_room, removed_gone;
    struct batch_owner *owners; // by record, in order: of the items that changed vifs
    size_t owner_count, owner_room;
    struct batch_options *options; // TRANSACTION: of operations that say something themselves; in order
    size_t option_count, option_room;
    struct wire_list waits; // wires whose drains the answer waits for

    struct batch_vifs devices; // made for it, until they are the model's
    size_t pending;            // of them, being made
};

// ---- batch.c ----

// Frees it; takes NULL.
void batch_destroy(struct batch *batch);
// Adds one item. Returns 0 or -ENOMEM.
int batch_add(struct batch *batch, const struct slice *item);
// Notes that the records of the change so far, but for those noted before, are of an item that changes a vif. Returns 0
// or -ENOMEM.
int batch_note_owner(struct batch *batch, const struct model_change *change, size_t item);
// As batch_blame, of the item that has made a record of a vif.
void batch_blame_record(const struct batch *batch, size_t record, struct error *error);
// Notes what an operation says of drains. Returns 0 or -ENOMEM.
int batch_add_options(struct batch *batch, const struct batch_options *options);
// What holds for a record of the change: an operation's own, or those of the whole. Records are asked for in order;
// cursor is 0 at first.
const struct command_options *batch_options(const struct batch *batch, size_t record, size_t *cursor,
                                            const struct command_options *whole);
// The answer is to wait for this wire's drain, if it is drained. Returns 0 or -ENOMEM.
int batch_note_wait(struct batch *batch, const struct object *wire);
// The step of a batch, as command_step does it.
int batch_step(struct command *command, struct model_change *change, struct error *error);
// Takes its step back, and gives the slots back that it took and that have no device. Can't fail.
void batch_undo(struct model_change *change, struct model_mark mark);
// Answers and logs what was done (or, dry_run, what would be).
void batch_answer(struct command *command);

// ---- transaction.c, config.c: what the two kinds make of a body, and their steps ----

int transaction_parse(struct batch *batch, const char *body, size_t size, struct error *error);
int transaction_step(struct command *command, struct model_change *change, struct error *error);
int config_parse(struct batch *batch, const char *body, size_t size, struct error *error);
int config_step(struct command *command, struct model_change *change, struct error *error);
// Names the item, and its field, that an error is about.
void batch_blame(const struct batch *batch, size_t item, struct error *error);

// ---- batch_devices.c ----

// Notes a vif that the step has made. Returns 0 or -ENOMEM.
int batch_note_fresh(struct batch *batch, const struct vif *vif, size_t item);
// The device that was made for a vif of this name, or NULL.
struct device *batch_find_device(const struct batch *batch, const char *name);
// After the step: which of its vifs still need a device (batch->fresh), which devices go (batch->removed), which were
// made in vain. Returns 0 or -EINVAL with the error.
int batch_settle_devices(struct batch *batch, const struct model_change *change, struct model_mark mark,
                         struct error *error);
// Must it wait before its devices can be made: for others that are being made, and have their names or targets?
bool batch_must_wait(const struct batch *batch);
// Has the devices of batch->fresh made. ready or failed is called when that is decided; it has no devices if it failed.
// Returns 0 or -ENOMEM.
int batch_make(struct command *command, void (*ready)(struct command *command),
               void (*failed)(struct command *command, const struct error *error));
// Is this batch's or any batch's device of that name or target being made?
bool batch_making_conflicts(const struct vif *vif);
// Ends the making of the batch that is at it, if there is one: its devices go.
struct command *batch_making_stop(void);
bool batch_is_making(const struct command *command);
// Removes the devices that were made for it.
void batch_drop_devices(struct batch *batch);
// They are the model's from here on.
void batch_keep_devices(struct batch *batch);
// Lists the devices that it makes and takes those that go out of the tables; or the other way round. True: any.
bool batch_list_devices(struct batch *batch, bool forward);
// Removes those that go. True: there are any.
bool batch_remove_devices(struct batch *batch);
// One device has gone: were they all?
bool batch_all_gone(struct batch *batch);

#endif
