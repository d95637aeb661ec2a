# fish completion for edgepull; made from its definition of the command line.

function __edgepull_images
    set -l token (commandline -ct)
    for prefix in @PREFIXES@
        echo $prefix
        if string match -q -- "$prefix*" $token
            set -l path (string sub -s (math (string length -- $prefix) + 1) -- $token)
            if test $prefix = oci:
                printf "$prefix%s\n" (__fish_complete_directories $path)
            else
                printf "$prefix%s\n" (__fish_complete_path $path)
            end
        end
    end
end

# Only root may list them.
function __edgepull_deployments
    command ls @STATE@/deployments 2>/dev/null
end

complete -c edgepull -f
@LINES@
