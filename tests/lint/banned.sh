#!/bin/bash
# Calls that have no place here, and those that have only one.
set -u
. tests/lint/lib.bash

never='strcpy|strcat|stpcpy|sprintf|vsprintf|gets|system|popen|atoi|atol|atof|strtok'
never+='|alloca|vfork|tmpnam|mktemp|setjmp|longjmp|strerror|rand|asctime|ctime'

# Names, where they may be (an extended regular expression), and why.
rules=(
    "$never"
    '-' 'there is a better one'
    'printf|vprintf|puts|putchar|stdout'
    'src/cli/.*|nbd-mirror/command/.*' 'stdout belongs to the tunnel or to the reports'
    'stderr|perror'
    'src/cli/.*|nbd-mirror/command/.*|src/base/log\.c' 'one line per event: base/log.h'
    'fork|clone|posix_spawn|posix_spawnp|execv|execve|execvp|execvpe|execl|execlp|execle'
    'src/base/proc\.c' 'processes are made in base/proc.c'
    'waitpid|wait|waitid|wait3|wait4'
    'src/base/proc\.c' 'processes are reaped in base/proc.c'
    'pthread_create|pthread_setname_np'
    'src/base/thread\.c' 'threads are made in base/thread.c'
    'exit|abort'
    'src/cli/.*|nbd-mirror/command/.*|src/base/(json|findings)\.c'
    'a library says that it failed'
    '_exit'
    'src/cli/.*|src/base/(proc|fault)\.c' 'a library says that it failed'
    'setenv|putenv|unsetenv'
    'src/cli/main\.c|nbd-mirror/command/.*' 'other threads may be reading'
    'usleep|sleep|nanosleep'
    '-' 'clock_sleep_ms or cancel_sleep_ms'
    'NDEBUG'
    '-' 'assert() guards the guest'
    'time|gettimeofday|CLOCK_REALTIME|sem_timedwait|pthread_mutex_timedlock'
    'src/base/(log|journal)\.c' 'the wall clock jumps: base/clock.h; it is for people only'
)
all=''
for ((i = 0; i < ${#rules[@]}; i += 3)); do all+="|${rules[i]}"; done

while read -r file; do
    text=$(strip "$file")
    grep -qwE "(${all#|})" <<<"$text" || continue
    for ((i = 0; i < ${#rules[@]}; i += 3)); do
        [[ ! $file =~ ^(${rules[i + 1]})$ ]] || continue
        while IFS=: read -r nr hit; do
            bad "$file:$nr: $hit: ${rules[i + 2]}"
        done < <(echo "$text" | grep -nowE "(${rules[i]})" | # a call, a name of stdio, a macro
            while IFS=: read -r nr hit; do
                case $hit in
                stdout | stderr | NDEBUG | CLOCK_REALTIME) echo "$nr:$hit" ;;
                *) echo "$text" | sed -n "${nr}p" |
                    grep -qE "(^|[^A-Za-z0-9_.>])${hit}[[:blank:]]*\(" && echo "$nr:$hit" ;;
                esac
            done)
    done
done < <(sources)
exit "$found"
