# bash completion for edgepull; made from its definition of the command line, needs no other file.

# Bash replaces only what stands behind the last colon or equals sign.
_edgepull_cut() {
    local line=${COMP_LINE:0:COMP_POINT} word head
    word=${line##*[[:space:]]}
    head=${word%"${word##*[:=]}"}
    # Of the word's head, what belongs to the value.
    case $word in --*=*) head=${head#*=} ;; esac
    [ -z "$head" ] || COMPREPLY=("${COMPREPLY[@]#"$head"}")
}

_edgepull_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}

# What else may stand there.
_edgepull_more() {
    local more
    mapfile -t more < <(compgen -W "$1" -- "$current")
    COMPREPLY+=("${more[@]}")
    # Words are whole, images are not.
    [ ${#more[@]} = 0 ] || compopt +o nospace
}

# $1: -f or -d; $2: what stands before the path.
_edgepull_paths() {
    mapfile -t COMPREPLY < <(compgen "$1" -P "${2-}" -- "${current#"${2-}"}")
    compopt -o filenames
}

# Only root may list them.
_edgepull_deployments() {
    _edgepull_words "$(command ls @STATE@/deployments 2>/dev/null)"
}

_edgepull_image() {
    case $current in
    oci:*) _edgepull_paths -d oci: ;;
    oci-archive:*) _edgepull_paths -f oci-archive: ;;
    docker-archive:*) _edgepull_paths -f docker-archive: ;;
    *)
        _edgepull_words '@PREFIXES@'
        compopt -o nospace
        ;;
    esac
}

_edgepull() {
    local line=${COMP_LINE:0:COMP_POINT} words current option='' command='' place=0 offer='' i
    read -ra words <<<"$line"
    case $line in *[[:space:]]) words+=('') ;; esac
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        if [ -n "$option" ]; then
            option=''
            continue
        fi
        case ${words[i]} in
        @VALUED@) option=${words[i]} ;;
        -*) ;;
        *)
            case "${command:+$command }${words[i]}" in
            @NAMES@) command="${command:+$command }${words[i]}" ;;
            *) if [ -z "$command" ]; then command=${words[i]}; else place=$((place + 1)); fi ;;
            esac
            ;;
        esac
    done
    current=${words[-1]}
    case $current in
    --*=*)
        option=${current%%=*}
        current=${current#*=}
        ;;
    esac
    COMPREPLY=()
    case $option in
@VALUES@
    '')
        case $current in
        -*)
            # An option may stand before its command.
            case "$command" in
            '') offer='@ALL@' ;;
@OPTIONS@
            esac
            _edgepull_words "$offer @SHARED@"
            ;;
        *)
            case "$command-$place" in
            -0) _edgepull_words '@COMMANDS@' ;;
@ARGUMENTS@
            esac
            ;;
        esac
        ;;
    esac
    _edgepull_cut
}

complete -F _edgepull edgepull
