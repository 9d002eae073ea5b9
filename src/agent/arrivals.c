#include "agent/arrivals.h"

#include <stdlib.h>
#include <string.h>

#include "agent/inspect.h"
#include "base/mem.h"

enum {
    MOVES_MAX = 64, /* over the life of an agent; one is the rule */
    LOAD_WAIT_MS =
        15 * 1000, /* for an agent that must first notice that its link is cut:
                                 it does so after 10 s (link.h) */
};

struct arrivals {
    const struct guest_ops *ops;
    struct inspect *inspect;
    pthread_mutex_t load; /* one loads at a time; taken before ->lock */
    pthread_mutex_t lock; /* guards these */
    struct arrival *list; /* newest first */
    unsigned n;
};

struct arrivals *arrivals_new(const struct guest_ops *ops)
{
    struct arrivals *const s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->inspect = inspect_new();
    if (s->inspect == NULL) {
        free(s);
        return NULL;
    }
    s->ops = ops;
    pthread_mutex_init(&s->load, NULL);
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

const struct guest_ops *arrivals_ops(const struct arrivals *s)
{
    return s->ops;
}

struct inspect *arrivals_inspect(struct arrivals *s)
{
    return s->inspect;
}

static struct arrival *find_locked(struct arrivals *s, const char *id)
{
    for (struct arrival *a = s->list; a != NULL; a = a->next)
        if (strcmp(a->id, id) == 0)
            return a;
    return NULL;
}

struct arrival *arrivals_find(struct arrivals *s, const char *id)
{
    LOCK_SCOPE(&s->lock);

    return find_locked(s, id);
}

bool arrivals_add(struct arrivals *s, struct arrival **a, struct err *e)
{
    LOCK_SCOPE(&s->lock);

    struct arrival *const had = find_locked(s, (*a)->id);
    if (had != NULL && atomic_load(&had->step) < ARRIVAL_FINISHED) {
        arrival_free(*a);
        *a = had;
        return true;
    }
    if (s->n == MOVES_MAX)
        return err_set(e, ERR_REFUSED, 0, "more than %d moves on one connection",
                       MOVES_MAX);
    (*a)->next = s->list;
    s->list = *a;
    s->n++;
    return true;
}

bool arrivals_get(struct arrivals *s, const char *id, struct arrival **out,
                  struct err *e)
{
    AUTO(arrival_free) struct arrival *a = NULL;

    *out = arrivals_find(s, id);
    if (*out != NULL)
        return true;
    LOCK_SCOPE(&s->load);
    *out = arrivals_find(s, id); /* another handler may have loaded it */
    if (*out != NULL)
        return true;
    if (!arrival_load(id, s->ops, LOAD_WAIT_MS, &a, e))
        return false;
    if (a == NULL)
        return true;
    if (!arrivals_add(s, &a, e))
        return false;
    *out = ptr_steal(&a);
    return true;
}

void arrivals_lost(struct arrivals *s)
{
    for (struct arrival *a = s->list; a != NULL; a = a->next)
        arrival_lost(a);
}

void arrivals_free(struct arrivals *s)
{
    for (struct arrival *a = s->list, *next; a != NULL; a = next) {
        next = a->next;
        arrival_free(a);
    }
    inspect_free(s->inspect);
    pthread_mutex_destroy(&s->load);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
