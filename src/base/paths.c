#include "base/paths.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"

bool paths_new_id(char id[PATHS_ID_LEN + 1], struct err *e)
{
    uint8_t raw[PATHS_ID_LEN / 2];

    if (!random_bytes(raw, sizeof raw, e))
        return false;
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(id + 2 * i, 3, "%02x", raw[i]);
    return true;
}

bool paths_id_ok(const char *id)
{
    return strlen(id) == PATHS_ID_LEN && strspn(id, "0123456789abcdef") == PATHS_ID_LEN;
}

void paths_state_dir(char out[PATHS_MAX], const char *id)
{
    snprintf(out, PATHS_MAX, PATHS_STATE "/%s", id);
}

void paths_run_dir(char out[PATHS_MAX], const char *id)
{
    snprintf(out, PATHS_MAX, PATHS_RUN "/%s", id);
}

void paths_ram_dir(char out[PATHS_MAX], const char *id)
{
    snprintf(out, PATHS_MAX, "/run/libvirt/snmigrate-%.8s", id);
}

void paths_ram_sock(char out[PATHS_SOCK_MAX], const char *id, const char *name)
{
    const int n =
        snprintf(out, PATHS_SOCK_MAX,
                 "/run/libvirt/snmigrate-%.8s/ram.tunnelmigrate.dest.%s", id, name);

    if (n < PATHS_SOCK_MAX && strchr(name, '/') == NULL)
        return;
    snprintf(out, PATHS_SOCK_MAX, "/run/libvirt/snmigrate-%.8s/ram", id);
}
