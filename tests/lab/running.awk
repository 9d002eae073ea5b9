# running.awk - the intervals in which a domain ran, from the lines of "lab events"
#
#   sort -n EVENTS... | awk -v name=VM -f running.awk
#
# Prints "HOST BEGIN_NS END_NS" (END "-": still running).  QEMU's own STOP and RESUME decide
# where a host's QEMU was heard, since libvirt's RESUMED may come after a following STOP.
# While a recorder had lost its libvirtd nothing is known: an interval ends at LOST, and
# begins anew with the STATE that is found after it.

{ line[NR] = $0 }
$3 == name && $4 ~ /^QMP_/ { heard[$2] = 1 }

function begin(host, at) {
    if (!(host in since)) since[host] = at
}

function end(host, at) {
    if (!(host in since)) return
    print host, since[host], at
    delete since[host]
}

function event(at, host, what, detail) {
    if (what == "STATE" && detail == "running") begin(host, at)
    else if (what == "STATE") end(host, at)
    else if (what == "STOPPED" || what == "CRASHED" || what == "QMP_STOP") end(host, at)
    else if (what == "QMP_RESUME") begin(host, at)
    else if (host in heard) return
    else if (what == "SUSPENDED") end(host, at)
    else if (what == "RESUMED") begin(host, at)
}

END {
    for (i = 1; i <= NR; i++) {
        split(line[i], f, " ")
        if (f[3] == "-" && (f[4] == "LOST" || f[4] == "REBOOT")) end(f[2], f[1])
        else if (f[3] == name) event(f[1], f[2], f[4], f[5])
    }
    for (host in since) print host, since[host], "-"
}
