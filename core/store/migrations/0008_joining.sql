-- What else an onboarding key says: the addresses it may be used from, the configuration that
-- its servers start with, whether they wait for approval, and the API key that made it.
ALTER TABLE onboarding_keys ADD COLUMN cidrs TEXT NOT NULL DEFAULT '[]';
ALTER TABLE onboarding_keys ADD COLUMN copy_server TEXT NOT NULL DEFAULT '';
ALTER TABLE onboarding_keys ADD COLUMN template TEXT NOT NULL DEFAULT '';
ALTER TABLE onboarding_keys ADD COLUMN approval BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE onboarding_keys ADD COLUMN created_by TEXT NOT NULL DEFAULT '';

-- How a server came, and the [[server]] that it is as long as no commit declares it.
ALTER TABLE servers ADD COLUMN template TEXT NOT NULL DEFAULT '';
ALTER TABLE servers ADD COLUMN onboarding_key TEXT NOT NULL DEFAULT '';
ALTER TABLE servers ADD COLUMN remote_addr TEXT NOT NULL DEFAULT '';

-- Agents that a person turned away. They may come back with another key only.
CREATE TABLE rejected_agents (
  public_key  TEXT PRIMARY KEY,
  server      TEXT NOT NULL,
  rejected_at BIGINT NOT NULL
);
