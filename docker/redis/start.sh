#!/bin/sh
# Redis with a password, which it reads from its standard input: argv holds none. An append-only file, and never an eviction: a
# full Redis refuses, and tasks wait in the table. What reconfigures, inspects or stops the server is refused to all.
set -eu
: "${REDIS_PASSWORD:?set REDIS_PASSWORD}"
# A line of Redis' configuration cannot hold every character; what the docs make is hexadecimal.
case "$REDIS_PASSWORD" in
*[!A-Za-z0-9._~-]*) echo "REDIS_PASSWORD may hold letters, digits and . _ ~ - only: it is part of a URL" >&2; exit 2 ;;
esac
exec "${REDIS_SERVER:-redis-server}" - "$@" <<END
appendonly yes
maxmemory 256mb
maxmemory-policy noeviction
user default reset on >$REDIS_PASSWORD ~* &* +@all -@dangerous -@admin +info +keys +flushdb +flushall +client|setname +client|getname +client|id -config -debug -module -acl
END
