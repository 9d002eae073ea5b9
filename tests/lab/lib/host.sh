# shellcheck shell=bash
# host.sh - a host from nothing to a running libvirtd and sshd, and back to nothing
#
# $LAB_DIR/HOST/        pid       init of the host's namespaces, "PID STARTTIME"
#                       etc-libvirt, etc-ssh, cache-libvirt, log-libvirt, hosts: mounted
#                       over the machine's
#                       var-lib   mounted over /var/lib; what is not private there is a
#                                 symlink to the machine's (at machine-var-lib)
#                       home      mounted over root's home
#                       images    mounted on /var/lib/images
# $LAB_DIR/ssh/         keys, known_hosts, config

HOST_DAEMON_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

host_dir() { echo "$LAB_DIR/$1"; }

# start_time PID: field 22 of /proc/PID/stat; tells a process from a later one of that pid
start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2> /dev/null) || return 1
    stat=${stat##*) }
    # shellcheck disable=SC2086
    set -- $stat
    [ "$1" != Z ] || return 1
    echo "${20}"
}

# host_alive HOST: its init is the process that we started
host_alive() {
    local pid start
    [ -f "$LAB_DIR/$1/pid" ] && read -r pid start < "$LAB_DIR/$1/pid" &&
        [ "$(start_time "$pid")" = "$start" ]
}

host_pid() {
    local pid
    read -r pid _ < "$LAB_DIR/$1/pid"
    echo "$pid"
}

need_up() {
    if ! host_alive a || ! host_alive b; then die "the lab '$LAB_NAME' is not up"; fi
}

host_exec() {
    local host=$1
    shift
    PATH=$LAB_BIN:$HOST_DAEMON_PATH "$LAB_DIR/host-ns" enter "$(host_pid "$host")" "$@"
}

virsh_on() {
    local host=$1
    shift
    host_exec "$host" virsh -q -c qemu:///system "$@"
}

# ---- configuration -------------------------------------------------------------

uuid_of() {
    local sum
    sum=$(printf '%s %s' "$LAB_NAME" "$1" | md5sum)
    echo "${sum:0:8}-${sum:8:4}-4${sum:13:3}-8${sum:17:3}-${sum:20:12}"
}

write_libvirt_conf() {
    local dir=$LAB_DIR/$1/etc-libvirt
    mkdir -p "$dir/qemu"
    cat > "$dir/libvirtd.conf" << END
host_uuid = "$(uuid_of "$1")"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
END
    # user and group are those of the package, as on a real host; dynamic_ownership too.
    # The rest is what a machine without systemd, AppArmor and /dev/kvm cannot give.
    cat > "$dir/qemu.conf" << END
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
dynamic_ownership = 1
END
}

write_sshd_conf() {
    local dir=$LAB_DIR/$1/etc-ssh
    mkdir -p "$dir"
    ssh-keygen -q -t ed25519 -N '' -C "host$1" -f "$dir/host_key"
    cp "$LAB_DIR/ssh/user_key.pub" "$dir/authorized_keys"
    cat > "$dir/sshd_config" << END
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
MaxStartups 100
PidFile /run/sshd.pid
SetEnv PATH=$LAB_BIN:$HOST_DAEMON_PATH
END
}

write_ssh_client() {
    local ssh=$LAB_DIR/ssh host
    for host in a b; do
        echo "host$host,$(ip_of "$host") $(cut -d' ' -f1,2 "$LAB_DIR/$host/etc-ssh/host_key.pub")"
    done > "$ssh/known_hosts"
    for host in a b; do
        cat << END
Host host$host
    HostName $(ip_of "$host")
END
    done > "$ssh/config"
    cat >> "$ssh/config" << END
Host *
    User root
    IdentityFile $ssh/user_key
    IdentitiesOnly yes
    UserKnownHostsFile $ssh/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
END
    cp "$ssh/config" "$LAB_DIR/a/etc-ssh/ssh_config"
    cp "$ssh/config" "$LAB_DIR/b/etc-ssh/ssh_config"
}

write_hosts_file() {
    cat > "$LAB_DIR/$1/hosts" << END
127.0.0.1 localhost
::1 localhost
$(ip_of a) hosta
$(ip_of b) hostb
END
}

lab_files() {
    local host dir
    mkdir -m 755 "$LAB_DIR"
    mkdir -m 700 "$LAB_DIR/ssh"
    cp "$LAB_TOOLS"/{host-ns,events,check-disk} "$LAB_DIR/" # "make clean" shall not break a lab
    ssh-keygen -q -t ed25519 -N '' -C lab -f "$LAB_DIR/ssh/user_key"
    for host in a b; do
        dir=$LAB_DIR/$host
        mkdir -p "$dir"/{cache-libvirt,log-libvirt/{qemu,console},images,machine-var-lib} \
            "$dir"/var-lib/{libvirt/{boot,images,qemu},images,snmigrate} "$dir"/{root,repo,dev}
        mkdir -m 700 "$dir/home"
        chmod 711 "$dir"/var-lib/libvirt/{boot,images} "$dir/cache-libvirt"
        chmod 700 "$dir/var-lib/snmigrate"
        chmod 1777 "$dir/log-libvirt/console"
        write_libvirt_conf "$host"
        write_sshd_conf "$host"
        write_hosts_file "$host"
    done
    write_ssh_client
}

# ---- daemons -----------------------------------------------------------------

libvirtd_start() {
    host_exec "$1" sh -c 'cd / && exec libvirtd -d -p /run/libvirt/libvirtd.pid' \
        < /dev/null > "$LAB_DIR/$1/libvirtd.out" 2>&1 ||
        die "libvirtd of host $1 does not start: $(cat "$LAB_DIR/$1/libvirtd.out")"
}

sshd_start() { host_exec "$1" /usr/sbin/sshd < /dev/null; }

libvirtd_answers() { virsh_on "$1" list > /dev/null 2>&1; }

daemons_start() {
    host_exec "$1" mkdir -p /run/libvirt
    sshd_start "$1"
    libvirtd_start "$1"
    wait_until 20 libvirtd_answers "$1" || die "libvirtd of host $1 does not answer"
}

# QEMU's capabilities take libvirtd a second to probe; it checks a stored answer
# against the programs' times by itself, so a stored one is safe.  One store per userland.
caps_store() { echo "$LAB_CACHE/caps-$(echo "${1:-native}" | tr / _)"; }

caps_load() {
    local store
    store=$(caps_store "$2")
    [ ! -d "$store" ] || cp -a "$store/." "$LAB_DIR/$1/cache-libvirt/"
}

caps_save() {
    local store
    store=$(caps_store "$2")
    diff -rq "$LAB_DIR/$1/cache-libvirt/qemu" "$store/qemu" > /dev/null 2>&1 && return 0
    mkdir -p "$LAB_CACHE"
    cp -a "$LAB_DIR/$1/cache-libvirt" "$store.$$"
    rm -rf "$store"
    mv -T "$store.$$" "$store" 2> /dev/null || rm -rf "$store.$$"
}

# ---- up and down ----------------------------------------------------------------

host_create() {
    local pid
    pid=$("$LAB_DIR/host-ns" start "host$1")
    echo "$pid $(start_time "$pid")" > "$LAB_DIR/$1/pid"
}

host_start() {
    local host=$1 tree=$2
    caps_load "$host" "$tree"
    daemons_start "$host"
}

# host_call HOST FUNCTION ARG...: one of mounts.sh, on the host
host_call() {
    local host=$1
    shift
    # shellcheck disable=SC2016 # expanded on the host
    host_exec "$host" env LAB_NAME="$LAB_NAME" LAB_SRC="$LAB_SRC" LAB_BIN="$LAB_BIN" \
        bash -euc '. "$LAB_SRC/lib/common.sh"; . "$LAB_SRC/lib/mounts.sh"; "$@"' lab "$@"
}

lab_start() {
    local tree_a=$1 tree_b=$2 rate=$3 job
    lab_files
    echo "$tree_a" > "$LAB_DIR/a/tree"
    echo "$tree_b" > "$LAB_DIR/b/tree"
    host_create a
    host_create b
    host_call a mount_host a "$tree_a"
    host_call b mount_host b "$tree_b"
    link_up
    link_rate "$rate"
    host_start a "$tree_a" & job=$!
    host_start b "$tree_b"
    wait "$job"
}

cmd_up() {
    local rate=none tree_a='' tree_b=''
    while [ $# -gt 0 ]; do
        [ $# -ge 2 ] || die_usage "$1 needs a value"
        case $1 in
            --rate) rate=$2 ;;
            --tree-a) tree_a=$2 ;;
            --tree-b) tree_b=$2 ;;
            *) die_usage "up: $1" ;;
        esac
        shift 2
    done
    [ "$(id -u)" -eq 0 ] || die "needs root"
    if host_alive a || host_alive b; then die "the lab '$LAB_NAME' is up already"; fi
    lab_remove
    tools_build
    # shellcheck disable=SC2154
    trap 'rc=$?; [ $rc -eq 0 ] || lab_remove; exit $rc' EXIT
    lab_start "$tree_a" "$tree_b" "$rate"
    trap - EXIT
}

host_gone() { ! host_alive "$1"; }

# Killing the init of the pid namespace kills all of the host; when it has ended so have
# they, and with them mounts and interfaces.
lab_remove() {
    local host
    for host in a b; do
        ! host_alive "$host" || kill -KILL "$(host_pid "$host")"
    done
    for host in a b; do
        wait_until 30 host_gone "$host" || die "processes of host $host do not end"
    done
    rm -rf --one-file-system "$LAB_DIR"
}

cmd_down() { lab_remove; }

cmd_run() {
    [ $# -ge 2 ] || die_usage "run a|b CMD ARG..."
    check_host "$1"
    need_up
    local host=$1
    shift
    export PATH=$LAB_BIN:$PATH
    exec "$LAB_DIR/host-ns" enter "$(host_pid "$host")" "$@"
}

cmd_shell() {
    check_host "${1:-}"
    cmd_run "$1" env PS1="[lab $LAB_NAME \\h \\w]# " bash --norc
}

cmd_dir() { echo "$LAB_DIR"; }
cmd_ssh_config() { echo "$LAB_DIR/ssh/config"; }

# ---- faults of a whole host ---------------------------------------------------------

libvirtd_gone() { ! host_exec "$1" pidof libvirtd > /dev/null; }

cmd_kill_host_daemon() {
    check_host "${1:-}"
    need_up
    host_exec "$1" pkill -KILL -x libvirtd
    wait_until 10 libvirtd_gone "$1" || die "libvirtd of host $1 does not end"
}

cmd_restart_libvirtd() {
    check_host "${1:-}"
    need_up
    host_exec "$1" pkill -TERM -x libvirtd || true
    # where a thread of it waits for QEMU it gives up after 30 s
    wait_until 45 libvirtd_gone "$1" || die "libvirtd of host $1 does not end"
    libvirtd_start "$1"
    wait_until 20 libvirtd_answers "$1" || die "libvirtd of host $1 does not answer"
}

cmd_reboot() {
    check_host "${1:-}"
    need_up
    events_note "$1" REBOOT
    # -1 from inside: all that the caller may signal, but neither itself nor pid 1
    host_exec "$1" sh -c 'kill -KILL -1; umount -l /run'
    host_call "$1" mount_run
    daemons_start "$1"
    events_rejoin "$1"
}
