-- What the role of the running service may do, for psql 15 or newer as the owner of the tables; may be run again.
-- The password comes from CDS_SERVICE_PASSWORD. Why so few rights: docs/store.md.
\getenv password CDS_SERVICE_PASSWORD
SELECT 'CREATE ROLE cds_service LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cds_service') \gexec
ALTER ROLE cds_service PASSWORD :'password';
ALTER ROLE cds_service SET idle_in_transaction_session_timeout = '5s';
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO cds_service;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO cds_service;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO cds_service;
GRANT UPDATE ON chains, daily_counts TO cds_service;
GRANT UPDATE (lifted_at, lifted_by, lift_reason) ON rule_stops TO cds_service;
GRANT DELETE ON seen_tokens TO cds_service;
-- It reads who may call; it does not decide who may.
REVOKE INSERT ON clients, alembic_version FROM cds_service;
