#!/bin/sh
# Makes the role of Lifeboat in a new cluster (docs/privileges.md). The postgres image runs or reads it once, when it makes one.
set -eu
psql --no-psqlrc --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 \
  --set password="$(cat "$ROLE_PASSWORD_FILE")" <<'SQL'
CREATE ROLE lifeboat LOGIN REPLICATION BYPASSRLS PASSWORD :'password' IN ROLE pg_monitor, pg_read_all_data;
ALTER ROLE lifeboat SET lo_compat_privileges = on;
GRANT EXECUTE ON FUNCTION pg_create_restore_point(text), pg_switch_wal() TO lifeboat;
SQL
# The image lets everybody with a password in, but for replication. The address of another container is not known beforehand.
echo 'host replication lifeboat all scram-sha-256' >> "$PGDATA/pg_hba.conf"
