scan=/run/llmdeploy/support-chat-1a2b3c4d/services
if [ -d "$scan" ]; then
    ! s6-svscanctl "$scan" 2>/dev/null || s6-svscanctl -t "$scan"
    waited=0
    while s6-svscanctl "$scan" 2>/dev/null && [ "$waited" -lt 600 ]; do
        waited=$((waited + 1))
        sleep 0.1
    done
    # What a killed s6-svscan left behind goes on without it and would stand in the way of the next one.
    for folder in "$scan"/* "$scan"/*/log; do
        [ -d "$folder" ] || continue
        s6-svc -xd "$folder" 2>/dev/null || : # most are not there any more
    done
    for folder in "$scan"/* "$scan"/*/log; do
        [ -d "$folder" ] || continue
        waited=0
        while s6-svok "$folder" && [ "$waited" -lt 1200 ]; do
            waited=$((waited + 1))
            sleep 0.1
        done
    done
    # The janitor outlives an s6-supervise that was killed; it is known by its folder.
    if read -r old <"$scan/llmdeploy-janitor/pid" && [ "$(readlink "/proc/$old/cwd")" = "$(readlink -f "$scan/llmdeploy-janitor")" ]; then
        kill "$old"
    fi 2>/dev/null
    rm -rf "$scan"
fi
rm -rf /run/llmdeploy/support-chat-1a2b3c4d/supervisor.log /run/llmdeploy/support-chat-1a2b3c4d/applied
