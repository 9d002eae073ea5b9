#include "cli/args.h"

#include <string.h>

/* Bytes of the name that @arg, "--NAME" or "--NAME=VALUE", begins with; 0: another one. */
static size_t is_named(const char *arg, const struct args_flag *f)
{
    const size_t n = strlen(f->name);

    if (strncmp(arg, f->name, n) != 0)
        return 0;
    return arg[n] == '\0' || (arg[n] == '=' && f->set == NULL) ? n : 0;
}

/* The option at @argv[*i]; *i becomes that of its value. */
static bool take(int argc, char **argv, const struct args_flag *f, int *i,
                 struct err *e)
{
    const char *const arg = strcmp(argv[*i], "-h") == 0 ? "--help" : argv[*i];
    size_t n = 0;

    while (f->name != NULL && (n = is_named(arg, f)) == 0)
        f++;
    if (f->name == NULL)
        return err_set(e, ERR_USAGE, 0, "snmigrate %s has no option %.100s", argv[0],
                       argv[*i]);
    if (f->set != NULL)
        return *f->set = true;
    if (arg[n] == '\0' && *i + 1 == argc)
        return err_set(e, ERR_USAGE, 0, "%s needs a value", f->name);
    *f->value = arg[n] == '=' ? arg + n + 1 : argv[++*i];
    return true;
}

bool args_parse(int argc, char **argv, const struct args_flag *flags, int most, int *n,
                struct err *e)
{
    bool options = true;

    *n = 0;
    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && argv[i][0] == '-') {
            if (!take(argc, argv, flags, &i, e))
                return false;
        } else if (*n == most) {
            return err_set(e, ERR_USAGE, 0, "\"%.100s\" is one argument too many",
                           argv[i]);
        } else {
            argv[++*n] = argv[i];
        }
    }
    return true;
}
