scan=/run/llmdeploy/support-chat-1a2b3c4d/services
folder=$scan/engine-0
running=no pid=0 restarts=0
if s6-svscanctl "$scan" && [ "$(s6-svstat -o up "$folder")" = true ]; then
    running=yes pid=$(s6-svstat -o pid "$folder")
fi
[ ! -s "$folder/state/starts" ] || read -r starts <"$folder/state/starts"
[ "${starts:-0}" -eq 0 ] || restarts=$((starts - 1))
printf 'running\t%s\npid\t%s\nrestarts\t%s\n' "$running" "$pid" "$restarts"
printf 'definition\t%s\n' "$(cd "$folder" && cat run finish down-signal timeout-kill timeout-finish data/pre_start data/start data/sweep data/retention_minutes log/run | sha256sum | cut -d ' ' -f 1)"
