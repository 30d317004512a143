# weights w1
[ -d /lib/volume/weights ] || {
    echo "the model is not there: the volume is locked; apply unlocks it" >&2
    exit 1
}
umask 077
for folder in /run/llmdeploy/support-chat-1a2b3c4d/engine /run/llmdeploy/support-chat-1a2b3c4d/work-0 /lib/volume/engine-0; do
    [ -d "$folder" ] || mkdir "$folder"
    chown -h llmd-1a2b3c4d: "$folder"
done
# Below a folder of the user root changes nothing: a path there may lead anywhere.
setpriv --reuid=llmd-1a2b3c4d --regid=llmd-1a2b3c4d --clear-groups mkdir -p /lib/volume/engine-0/cache /lib/volume/engine-0/home
# A killed engine leaves its sockets behind and would not start over them.
rm -f /run/llmdeploy/support-chat-1a2b3c4d/engine/0.sock
find /run/llmdeploy/support-chat-1a2b3c4d/work-0 -mindepth 1 -delete
