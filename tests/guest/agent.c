/* QEMU's guest agent: Debian's own program, on the port that libvirt names. */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char program[] = "/usr/sbin/qemu-ga", ports[] = "/sys/class/virtio-ports";
static bool started;

bool agent_is_there(void)
{
    return started;
}

static bool is_agents(const char *port)
{
    char path[320], name[64] = "";

    snprintf(path, sizeof path, "%s/%s/name", ports, port);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const bool found = fd >= 0 && read(fd, name, sizeof name - 1) > 0 &&
                       strcmp(name, "org.qemu.guest_agent.0\n") == 0;
    if (fd >= 0)
        close(fd);
    return found;
}

/* The device of the port, into @out; it takes the kernel a moment to learn the name. */
static bool port_find(char *out, size_t size)
{
    for (int tries = 0; tries < 100; tries++, usleep(50000)) {
        DIR *const dir = opendir(ports);

        for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;)
            if (is_agents(d->d_name)) {
                snprintf(out, size, "/dev/%s", d->d_name);
                closedir(dir);
                return true;
            }
        if (dir != NULL)
            closedir(dir);
    }
    return false;
}

static void clock_behind(uint64_t seconds)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec -= (time_t)seconds;
    if (seconds != 0 && clock_settime(CLOCK_REALTIME, &now) < 0)
        say_error("clock: %s", strerror(errno));
}

void agent_start(const struct options *o)
{
    char port[288];

    clock_behind(o->clock);
    if (access(program, X_OK) < 0)
        return;
    if (!port_find(port, sizeof port)) {
        say_error("no port for the guest agent");
        return;
    }
    const pid_t pid = fork();
    if (pid == 0) {
        execl(program, "qemu-ga", "-m", "virtio-serial", "-p", port, "-t", "/run",
              (char *)NULL);
        _exit(127);
    }
    if (pid < 0) {
        say_error("guest agent: %s", strerror(errno));
        return;
    }
    started = true;
    if (o->agent_stands) {
        sleep(3); /* libvirt has seen it, and waits for its answers */
        kill(pid, SIGSTOP);
    }
}
