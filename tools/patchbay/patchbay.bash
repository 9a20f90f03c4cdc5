# SPDX-License-Identifier: BSD-3-Clause
# Bash completion for patchbay, made by `patchbay --dump-completion`.

# Asks the daemon for the names that the listing command $@ knows.
_patchbay_names() {
    patchbay --timeout 2 "${where[@]}" "$@" --names 2>/dev/null
}

# What conf takes: as it is typed, first the kind, then names.
_patchbay_entities() {
    local kind=${current%%:*} name
    case $current in
    network:* | port:* | vif:* | wire:*)
        for name in $(_patchbay_names "$kind" ls); do echo "$kind:$name"; done ;;
    *) echo host network: port: vif: wire: ;;
    esac
}

# The keys that the entity has now, each with $1 behind it.
_patchbay_keys() {
    local key
    for key in $(_patchbay_names conf list "${words[0]}"); do echo "$key$1"; done
}

_patchbay_commands="plug unplug wire tap bump tee vif port network conf show stats top events export apply audit version help"

# Leaves in group the second words of the commands that begin with $1.
_patchbay_group() {
    case $1 in
    wire) group="add replug unplug up down set show rm ls" ;;
    tap) group="add rm" ;;
    bump) group="add rm" ;;
    tee) group="set move show ls" ;;
    vif) group="add set show rm ls" ;;
    port) group="add set show rm ls" ;;
    network) group="add set show rm ls" ;;
    conf) group="list get set unset" ;;
    esac
}

_patchbay_globals="--socket --network --json --no-color --file --timeout --help"

# Leaves in flags the options of the command $1.
_patchbay_flags() {
    case $1 in
    "plug") flags="--port --vlan --owner --label --qemu --memory --no-kvm" ;;
    "unplug") flags="--detach" ;;
    "wire add") flags="--on-full --stall-ms --admin --label" ;;
    "wire ls") flags="--names" ;;
    "tap add") flags="--out --direction --before --after --label" ;;
    "bump add") flags="--on-failure --stall-ms --force --when-ready --before --after --label" ;;
    "bump rm") flags="--quiet-ms --drain-ms" ;;
    "tee set") flags="--force --when-ready --quiet-ms --drain-ms" ;;
    "tee move") flags="--before --after" ;;
    "tee ls") flags="--names" ;;
    "vif add") flags="--owner --label" ;;
    "vif rm") flags="--detach" ;;
    "vif ls") flags="--names" ;;
    "port add") flags="--vif --vlan --label" ;;
    "port rm") flags="--detach" ;;
    "port ls") flags="--names" ;;
    "network add") flags="--label" ;;
    "network ls") flags="--names" ;;
    "conf list") flags="--names" ;;
    "stats") flags="--vif --cycles --queues --watch --count" ;;
    "top") flags="--sort --interval --rows --once" ;;
    "events") flags="--since --count" ;;
    "apply") flags="--file --dry-run --force" ;;
    "audit") flags="--limit --after" ;;
    esac
}

# The options that take a value.
_patchbay_valued=" --port --vlan --owner --label --memory --on-full --stall-ms --admin --out --direction --before --after --on-failure --quiet-ms --drain-ms --vif --count --sort --interval --rows --since --file --limit --socket --network --timeout "

# Leaves in values what the option $1 may have.
_patchbay_values() {
    case $1 in
    --port) values="$(_patchbay_names port ls)" ;;
    --on-full) values="wait drop" ;;
    --admin) values="up down" ;;
    --out) values="$(_patchbay_names port ls)" ;;
    --direction) values="both a-to-b b-to-a" ;;
    --before) values="$(_patchbay_names tee ls "${words[0]}")" ;;
    --after) values="$(_patchbay_names tee ls "${words[0]}")" ;;
    --on-failure) values="open closed" ;;
    --vif) values="$(_patchbay_names vif ls)" ;;
    --sort) values="frames bits drops name" ;;
    --network) values="$(_patchbay_names network ls)" ;;
    esac
}

# Leaves in values what argument number $2 of the command $1 may be.
_patchbay_arguments() {
    case $1:$2 in
    "plug":1) values="vhost: vhost-server: dev: kernel-new: none" ;;
    "plug":*) values="$(_patchbay_names vif ls)" ;;
    "wire add":1) values="$(_patchbay_names port ls)" ;;
    "wire add":2) values="$(_patchbay_names port ls)" ;;
    "wire replug":0) values="$(_patchbay_names wire ls)" ;;
    "wire replug":1) values="a b" ;;
    "wire replug":2) values="$(_patchbay_names port ls)" ;;
    "wire unplug":0) values="$(_patchbay_names wire ls)" ;;
    "wire unplug":1) values="a b" ;;
    "wire up":0) values="$(_patchbay_names wire ls)" ;;
    "wire down":0) values="$(_patchbay_names wire ls)" ;;
    "wire set":0) values="$(_patchbay_names wire ls)" ;;
    "wire set":*) values="admin= on_full= stall_ms=" ;;
    "wire show":0) values="$(_patchbay_names wire ls)" ;;
    "wire rm":0) values="$(_patchbay_names wire ls)" ;;
    "tap add":0) values="$(_patchbay_names wire ls)" ;;
    "tap add":1) values="$(_patchbay_names port ls)" ;;
    "tap rm":0) values="$(_patchbay_names wire ls)" ;;
    "tap rm":1) values="$(_patchbay_names tee ls "${words[0]}")" ;;
    "bump add":0) values="$(_patchbay_names wire ls)" ;;
    "bump add":1) values="$(_patchbay_names port ls)" ;;
    "bump add":2) values="$(_patchbay_names port ls)" ;;
    "bump rm":0) values="$(_patchbay_names wire ls)" ;;
    "bump rm":1) values="$(_patchbay_names tee ls "${words[0]}")" ;;
    "tee set":0) values="$(_patchbay_names wire ls)" ;;
    "tee set":1) values="$(_patchbay_names tee ls "${words[0]}")" ;;
    "tee set":*) values="mode= port= out_port= direction= on_failure= stall_ms=" ;;
    "tee move":0) values="$(_patchbay_names wire ls)" ;;
    "tee move":1) values="$(_patchbay_names tee ls "${words[0]}")" ;;
    "tee show":0) values="$(_patchbay_names wire ls)" ;;
    "tee show":1) values="$(_patchbay_names tee ls "${words[0]}")" ;;
    "tee ls":0) values="$(_patchbay_names wire ls)" ;;
    "vif add":1) values="vhost: vhost-server: dev: kernel-new: none" ;;
    "vif set":0) values="$(_patchbay_names vif ls)" ;;
    "vif set":*) values="owner= admin= worker= mtu=" ;;
    "vif show":0) values="$(_patchbay_names vif ls)" ;;
    "vif rm":0) values="$(_patchbay_names vif ls)" ;;
    "port set":0) values="$(_patchbay_names port ls)" ;;
    "port set":*) values="vif= vlan= admin= ingress_bps= ingress_burst= ingress_pps= ingress_burst_frames= and= egress_= as= well=" ;;
    "port show":0) values="$(_patchbay_names port ls)" ;;
    "port rm":0) values="$(_patchbay_names port ls)" ;;
    "network set":0) values="$(_patchbay_names network ls)" ;;
    "network show":0) values="$(_patchbay_names network ls)" ;;
    "network rm":0) values="$(_patchbay_names network ls)" ;;
    "conf list":0) values="$(_patchbay_entities)" ;;
    "conf get":0) values="$(_patchbay_entities)" ;;
    "conf get":1) values="$(_patchbay_keys)" ;;
    "conf set":0) values="$(_patchbay_entities)" ;;
    "conf set":1) values="$(_patchbay_keys =)" ;;
    "conf unset":0) values="$(_patchbay_entities)" ;;
    "conf unset":1) values="$(_patchbay_keys)" ;;
    "show":0) values="$(_patchbay_names wire ls)" ;;
    "stats":0) values="$(_patchbay_names wire ls)" ;;
    help:0) values=$_patchbay_commands ;;
    help:1) _patchbay_group "${words[0]}" && values=$group ;;
    esac
}

_patchbay() {
    # Not COMP_WORDS: readline cuts words at colons and equals signs, too.
    local line=${COMP_LINE:0:COMP_POINT}
    local typed
    read -ra typed <<<"$line"
    [[ $line == *[[:space:]] ]] && typed+=("")
    local last=$((${#typed[@]} - 1))
    local current=${typed[last]} previous=${typed[last - 1]}
    local verb= group= flags= values= i word
    local words=() where=()
    for ((i = 1; i < last; i++)); do
        word=${typed[i]}
        case $word in
        --socket | --network) where+=("$word" "${typed[++i]}") ;;
        --*) [[ $_patchbay_valued == *" $word "* ]] && ((i++)) ;;
        *)
            if [[ -z $verb ]]; then
                verb=$word
                _patchbay_group "$verb"
            elif [[ -n $group && $verb != *" "* ]]; then
                verb+=" $word"
            else
                words+=("$word")
            fi
            ;;
        esac
    done
    if [[ $_patchbay_valued == *" $previous "* ]]; then
        _patchbay_values "$previous"
    elif [[ $current == -* ]]; then
        _patchbay_flags "$verb"
        values="$flags $_patchbay_globals"
    elif [[ -z $verb ]]; then
        values=$_patchbay_commands
    elif [[ -n $group && $verb != *" "* ]]; then
        values=$group
    else
        _patchbay_arguments "$verb" "${#words[@]}"
    fi
    COMPREPLY=($(compgen -W "$values" -- "$current"))
    # A key or a kind goes on after its last character.
    [[ ${COMPREPLY[0]} == *[=:] ]] && compopt -o nospace 2>/dev/null
    # Where readline cuts at colons, it wants what stands behind the last one.
    [[ $current == *:* && $COMP_WORDBREAKS == *:* ]] &&
        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
    return 0
}
# Where nothing is known, files: -f, --socket, export.
complete -o default -F _patchbay patchbay
