-- Who made a cron, as authentication said it then: whose its runs are.
ALTER TABLE cron ADD COLUMN auth_user text;
