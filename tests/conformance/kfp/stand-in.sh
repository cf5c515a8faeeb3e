#!/bin/sh
# Stands in for programs that golden pipelines call and that are in no image: writes its arguments, one a line,
# to each path among them, with what comes before an output's own part of the path left out.
for word; do
    case "$word" in
        */*)
            path="/${word#*/}"
            mkdir -p "$(dirname "$path")"
            printf '%s\n' "$@" | sed 's#/.*/out/#out:#' > "$path" ;;
    esac
done
