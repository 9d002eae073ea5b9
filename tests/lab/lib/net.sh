# shellcheck shell=bash
# net.sh - the link between the hosts: one veth pair, both ends called eth0
#
# The pair is made inside the hosts' network namespaces, so that labs cannot collide and
# nothing is left when the namespaces end.  A cut gives the neighbour a false
# hardware address: packets are sent and ignored, TCP sees silence and no reset, and the
# kernel needs neither netfilter nor an action of tc.

ip_of() { if [ "$1" = a ]; then echo 10.77.0.1; else echo 10.77.0.2; fi; }
mac_of() { if [ "$1" = a ]; then echo 02:00:0a:4d:00:01; else echo 02:00:0a:4d:00:02; fi; }
NOBODY_MAC=02:00:0a:4d:00:ff

link_up() {
    local host
    # only the net namespace is entered: pids of the other host mean nothing on this one
    nsenter -t "$(host_pid a)" -n ip link add eth0 address "$(mac_of a)" type veth \
        peer name eth0 address "$(mac_of b)" netns "$(host_pid b)"
    for host in a b; do
        host_exec "$host" sh -c "ip link set lo up && ip link set eth0 up &&
            ip addr add $(ip_of "$host")/24 dev eth0"
    done
    link_restore
}

# neighbour HOST MAC: what HOST believes the other's address to be
neighbour() {
    host_exec "$1" ip neigh replace "$(ip_of "$(other_host "$1")")" lladdr "$2" \
        nud permanent dev eth0
}

link_cut() {
    case ${1:-} in
        '') neighbour a $NOBODY_MAC; neighbour b $NOBODY_MAC ;;
        *) check_host "$1"; neighbour "$(other_host "$1")" $NOBODY_MAC ;;
    esac
}

link_restore() {
    neighbour a "$(mac_of b)"
    neighbour b "$(mac_of a)"
}

link_rate() {
    local host
    for host in a b; do
        if [ "$1" = none ]; then
            host_exec "$host" tc qdisc del dev eth0 root 2> /dev/null || true
        else
            # burst: 10 ms at 200 Mbit/s; latency: what may queue before packets are dropped
            host_exec "$host" tc qdisc replace dev eth0 root tbf rate "$1" \
                burst 256kb latency 50ms
        fi
    done
}

rx_bytes() { host_exec "$1" ip -s -j link show eth0 | jq '.[0].stats64.rx.bytes'; }

link_state() {
    local host
    for host in a b; do
        echo "$host: $(host_exec "$host" tc qdisc show dev eth0)," \
            "$(host_exec "$host" ip neigh show dev eth0 nud permanent)"
    done
}

cmd_link() {
    local what=${1:-}
    need_up
    case $what in
        rate) [ $# -eq 2 ] || die_usage "link rate RATE|none"; link_rate "$2" ;;
        cut) link_cut "${2:-}" ;;
        restore) link_restore ;;
        bytes) echo "$(rx_bytes b) $(rx_bytes a)" ;;
        state) link_state ;;
        *) die_usage "link rate|cut|restore|bytes|state" ;;
    esac
}
