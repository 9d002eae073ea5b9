/* power.c - the ACPI power button ends the guest in good order */
#include "guest.h"

#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <unistd.h>

enum { MAX_INPUTS = 4 };

static bool key_is_power(const struct input_event *ev)
{
    return ev->type == EV_KEY && ev->code == KEY_POWER && ev->value == 1;
}

static void *power_run(void *arg)
{
    const int fd = *(int *)arg;
    struct input_event ev;

    while (read(fd, &ev, sizeof ev) == sizeof ev)
        if (key_is_power(&ev))
            atomic_store(&stopping, true);
    return NULL;
}

/* One thread per input device: which of them is the button does not matter. */
void power_start(void)
{
    static int fds[MAX_INPUTS];
    char path[32];
    pthread_t thread;

    for (int i = 0; i < MAX_INPUTS; i++) {
        snprintf(path, sizeof path, "/dev/input/event%d", i);
        fds[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (fds[i] >= 0 && pthread_create(&thread, NULL, power_run, &fds[i]) != 0)
            say_error("power: no thread");
    }
}
