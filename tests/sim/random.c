/* The randomness of a simulated run.
 *
 * Hash maps, task schedulers and election timers draw from the operating system. Loaded before a run, this answers them all from one
 * seed, so that the same seed gives the same run. It has no place outside of these tests. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

static uint64_t state;
static int seeded;

static uint64_t next(void) {
    if (!seeded) {
        const char *seed = getenv("HOLDFAST_SIM_SEED");
        state = seed ? strtoull(seed, NULL, 10) : 1;
        seeded = 1;
    }
    /* splitmix64 */
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned flags) {
    (void)flags;
    unsigned char *bytes = buffer;
    for (size_t at = 0; at < length; at++)
        bytes[at] = (unsigned char)(next() >> 32);
    return (ssize_t)length;
}

int getentropy(void *buffer, size_t length) {
    getrandom(buffer, length, 0);
    return 0;
}
