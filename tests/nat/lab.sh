# A small internet of network namespaces, to be sourced. No link leads out of it.
#
#   client 10.1.0.2 -- cnat 198.51.100.1 --+
#                                          +-- [bridge, namespace "net"] -+- pub 198.51.100.10 .11 .12 (signaling,
#   robot  10.2.0.2 -- rnat 198.51.100.2 --+                              |      STUN, TURN)
#                                                                         +- relay 198.51.100.20, relay.lab (TURN
#                                                                                over TCP and TLS on port 443)
#
# lab_up, lab_down, lab_nat GATEWAY KIND, at HOST COMMAND...

LAB="fl$$"
LAB_HOSTS="net pub relay client cnat robot rnat"
PUB=198.51.100.10
PUB_TCP=198.51.100.11
PUB_TLS=198.51.100.12
RELAY=198.51.100.20

at() {
    local host=$1
    shift
    ip netns exec "$LAB-$host" "$@"
}

lab_up() {
    local host
    for host in $LAB_HOSTS; do
        # "ip netns exec" shows these as /etc/...: unknown names fail at once, and nobody asks the real resolver.
        mkdir -p "/etc/netns/$LAB-$host"
        echo "nameserver 127.0.0.1" > "/etc/netns/$LAB-$host/resolv.conf"
        printf '%s\n' "127.0.0.1 localhost" "$RELAY relay.lab" > "/etc/netns/$LAB-$host/hosts"
        echo "hosts: files" > "/etc/netns/$LAB-$host/nsswitch.conf"
        ip netns add "$LAB-$host"
        ip -n "$LAB-$host" link set lo up
        at "$host" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv4.ip_forward=1 || return
    done
    ip -n "$LAB-net" link add br0 type bridge forward_delay 0
    ip -n "$LAB-net" addr add 198.51.100.254/24 dev br0
    ip -n "$LAB-net" link set br0 up
    # Swallows packets to other people's private addresses, as the internet does.
    ip -n "$LAB-net" route add blackhole 10.0.0.0/8
    lab_plug pub $PUB $PUB_TCP $PUB_TLS
    lab_plug relay $RELAY
    lab_plug cnat 198.51.100.1
    lab_plug rnat 198.51.100.2
    lab_lan cnat client 10.1.0
    lab_lan rnat robot 10.2.0
}

# lab_plug HOST ADDRESS...: puts a host on the bridge.
lab_plug() {
    local address
    ip -n "$LAB-net" link add "to-$1" type veth peer name wan0 netns "$LAB-$1"
    ip -n "$LAB-net" link set "to-$1" master br0 up
    for address in "${@:2}"; do ip -n "$LAB-$1" addr add "$address/24" dev wan0; done
    ip -n "$LAB-$1" link set wan0 up
    ip -n "$LAB-$1" route add default via 198.51.100.254
}

# lab_lan GATEWAY HOST NET: puts a host behind a gateway.
lab_lan() {
    ip -n "$LAB-$1" link add lan0 type veth peer name eth0 netns "$LAB-$2"
    ip -n "$LAB-$1" addr add "$3.1/24" dev lan0
    ip -n "$LAB-$1" link set lan0 up
    ip -n "$LAB-$2" addr add "$3.2/24" dev eth0
    ip -n "$LAB-$2" link set eth0 up
    ip -n "$LAB-$2" route add default via "$3.1"
}

lab_down() {
    local host pid
    for host in $LAB_HOSTS; do
        for pid in $(ip netns pids "$LAB-$host" 2> /dev/null); do kill "$pid" 2> /dev/null; done
    done
    for host in $LAB_HOSTS; do
        ip netns del "$LAB-$host" 2> /dev/null
        rm -rf "/etc/netns/$LAB-$host"
    done
}

# lab_nat GATEWAY full-cone|port-restricted|symmetric|udp-blocked|only-tcp-443: what the gateway does from now on.
# Strangers' packets from outside are dropped silently, as home routers do.
lab_nat() {
    local masquerade="masquerade" learn="" forward=""
    case $2 in
        full-cone) # Whoever sends to a port that was used gets in.
            learn="map inside { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 60s; size 9999; }
                chain learn { type filter hook postrouting priority srcnat + 10; oifname wan0 meta l4proto udp update @inside { udp sport : ct original ip saddr . ct original proto-src }; }
                chain let_in { type nat hook prerouting priority dstnat; iifname wan0 meta l4proto udp dnat ip to udp dport map @inside; }" ;;
        port-restricted) ;; # Plain masquerading keeps the port, and lets only answers in.
        symmetric) masquerade="masquerade fully-random" ;; # Another port for each destination.
        udp-blocked) forward="meta l4proto udp drop;" ;; # Both ways.
        only-tcp-443) forward="meta l4proto != tcp drop; oifname wan0 tcp dport != 443 drop;" ;;
        *) echo "no such NAT: $2" >&2; return 2 ;;
    esac
    at "$1" nft -f - << END
table ip nat
delete table ip nat
table ip nat {
    $learn
    chain out { type nat hook postrouting priority srcnat; oifname wan0 $masquerade; }
    chain own { type filter hook input priority 0; iifname wan0 ct state new drop; }
    chain through {
        type filter hook forward priority 0;
        $forward
        iifname wan0 ct state new ct status & dnat == 0 drop;
    }
}
END
    at "$1" conntrack -F 2> /dev/null || true
}
