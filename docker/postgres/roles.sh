#!/bin/sh
# Run once, by the image's entry point, in a new data folder: embedq gets a role that owns its database and is no superuser.
# pgvector is installed here, because only a superuser can. The password comes from the environment, not from argv.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --quiet --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv password EMBEDQ_PASSWORD
SET password_encryption = 'scram-sha-256';
-- A statement that fails is not to be in the log with the password.
SET log_min_error_statement = 'panic';
CREATE ROLE embedq LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE embedq OWNER embedq;
\connect embedq
CREATE EXTENSION vector;
SQL
