/* tests/fuzz/replay.c - run a fuzz target over the files of its corpus, once each.
 *
 * Usage: TARGET DIR...  Linked instead of libFuzzer, so that "make check" replays what was
 * once found; a crash or a sanitizer's report is the failure, the last name printed the
 * input.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* A target may have one, as with libFuzzer. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { INPUT_MAX = 1 << 20 };

static int replay(const char *dir, const char *name)
{
    static uint8_t buf[INPUT_MAX];
    char path[4096];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *const f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    const size_t len = fread(buf, 1, sizeof buf, f);
    fclose(f);
    puts(path);
    fflush(stdout);

    /* Of its exact size, so that a sanitizer sees a read behind its end. */
    uint8_t *const exact = malloc(len > 0 ? len : 1);
    if (exact == NULL)
        return 1;
    memcpy(exact, buf, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    return 0;
}

static int replay_dir(const char *path)
{
    DIR *const dir = opendir(path);
    int failed = 0, n = 0;

    if (dir == NULL) {
        perror(path);
        return 1;
    }
    for (const struct dirent *d; (d = readdir(dir)) != NULL;)
        if (d->d_name[0] != '.') {
            failed |= replay(path, d->d_name);
            n++;
        }
    closedir(dir);
    printf("%d inputs\n", n);
    return failed || n == 0; /* an empty corpus tests nothing */
}

int main(int argc, char **argv)
{
    int failed = argc < 2;

    if (LLVMFuzzerInitialize != NULL)
        failed |= LLVMFuzzerInitialize(&argc, &argv) != 0;
    for (int i = 1; i < argc; i++)
        failed |= replay_dir(argv[i]);
    return failed;
}
