-- What is known of newer images, by service: what runs, what its tag stands for, since when,
-- and which newer image failed.
CREATE TABLE image_updates (
  stack      TEXT NOT NULL,
  server     TEXT NOT NULL,
  service    TEXT NOT NULL,
  state      TEXT NOT NULL,
  data       TEXT NOT NULL,
  checked_at BIGINT NOT NULL,
  PRIMARY KEY (stack, server, service)
);
