/* src/tunnel/sshcmd.h - the ssh command line as an argument vector; pure. */
#ifndef SNM_TUNNEL_SSHCMD_H
#define SNM_TUNNEL_SSHCMD_H

#include "tunnel/dial.h"

/* Never a string for a shell; at most this many arguments, NULL included.  They point into
 * ->text and into the dest that sshcmd_finish() got. */
enum { SSHCMD_MAX = 64, SSHCMD_TEXT = 4096 };

struct sshcmd {
    const char *argv[SSHCMD_MAX]; /* NULL-terminated */
    unsigned n;
    char text[SSHCMD_TEXT];
    size_t used;
};

/* The words of --ssh: blanks separate, '...' "..." and \ quote as in sh, nothing is
 * expanded.  Errors: ERR_USAGE empty, a quote that is not closed, too long. */
MUST_CHECK bool sshcmd_words(const char *s, struct sshcmd *out, struct err *e);

struct sshcmd_opts {
    int connect_s;
    bool batch; /* nobody can be asked */
    bool aes;   /* put the AES-GCM ciphers first */
    bool show;  /* "ssh -G": print the configuration, connect nowhere */
};

/* After the words: options, [-l user] [-p port] -- host "snmigrate agent". */
MUST_CHECK bool sshcmd_finish(struct sshcmd *c, const struct dest *dest,
                              const struct sshcmd_opts *o, struct err *e);

#endif
