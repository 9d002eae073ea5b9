/* src/tunnel/pace.h - how much bulk may be under way, so that nothing queues for long; pure.
 *
 * Between two links lie the buffers of pipes, ssh and TCP: some megabytes, which on a slow
 * network are seconds.  A control call, a heartbeat or the last pages of RAM would wait
 * behind them.  So bulk is sent only while what the peer has not yet received is less than
 *
 *     speed * (1.25 * shortest round trip + 50 ms)
 *
 * which keeps the network busy and the queue short.  Both factors are measured by probes
 * (PING frames), which come back when all before them has arrived: the greatest speed and
 * the shortest round trip of the last 10 to 20 s.  Speed is what arrives in 100 ms or more:
 * a shaper lets a burst pass as if there were no limit (256 KiB in 2 ms seen, which made half
 * a second of queue).  Every 10 s sending pauses until the
 * queue is empty, or our own queue would be measured as part of the round trip.
 */
#ifndef SNM_TUNNEL_PACE_H
#define SNM_TUNNEL_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum { PACE_PROBES = 16 };

struct pace {
    struct {
        uint64_t pos; /* bytes sent before it */
        int64_t ns;
    } probe[PACE_PROBES];
    uint64_t next, oldest; /* numbers of probes: to be sent, not answered */

    uint64_t arrived; /* bytes that the peer is known to have */

    uint64_t span_pos; /* ->arrived when the running measure of the speed began */
    int64_t span_ns;   /* 0: none runs */

    double speed[2]; /* greatest, bytes/ns, 0 none; of this window and the one before */
    int64_t trip[2]; /* shortest, ns, 0 none; likewise */
    int64_t window_ns; /* when this window began */
    bool emptying;
    bool probe_now; /* the queue is empty: the time to measure */
};

/* A probe is due: @pos bytes were sent so far. */
bool pace_wants_probe(const struct pace *p, uint64_t pos);
/* It goes out behind @pos bytes; returns its number, to come back in the answer. */
uint64_t pace_probe(struct pace *p, uint64_t pos, int64_t now_ns);
/* Too many are on their way. */
bool pace_full(const struct pace *p);
/* The answer.  false: a number that is not under way. */
bool pace_answer(struct pace *p, uint64_t number, int64_t now_ns);

/* Whether bulk may be sent when @pos bytes were sent so far. */
bool pace_open(struct pace *p, uint64_t pos);
/* Bytes per second that arrived at best lately; 0: not measured. */
uint64_t pace_speed(const struct pace *p);
/* The shortest round trip lately, ns; 0: not measured. */
int64_t pace_trip(const struct pace *p);
/* Bytes that may be under way. */
uint64_t pace_limit(const struct pace *p);

#endif
