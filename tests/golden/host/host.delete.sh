rm -rf /run/llmdeploy/lock/support-chat-1a2b3c4d
lock=/run/llmdeploy/lock shared=/var/lib/llmdeploy/shared
if [ -d "$lock" ] && [ -z "$(find "$lock" -mindepth 1 -maxdepth 1 -type d)" ]; then
    rm -rf "$lock"
fi
# Only empty folders: what another stack keeps there stays.
[ ! -d "$shared" ] || find "$shared" -depth -maxdepth 2 -type d -empty -delete
for folder in /var/lib/llmdeploy /run/llmdeploy /var/log/llmdeploy; do
    [ ! -d "$folder" ] || rmdir --ignore-fail-on-non-empty "$folder"
done
