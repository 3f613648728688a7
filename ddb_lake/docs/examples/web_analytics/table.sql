-- The table that `load_aurora` fills. `_key` is made from the key's columns, `_seq` orders the changes of a key; both are
-- the loader's. Everything else is yours: types, further columns (with defaults), indexes.
CREATE TABLE WebAnalytics (
  _key BINARY(32) NOT NULL PRIMARY KEY,
  _seq DECIMAL(40,0) NOT NULL,
  page_id VARCHAR(100) NOT NULL,
  activity_dt VARCHAR(30) NOT NULL,
  hits INT,
  make VARCHAR(100),
  platform VARCHAR(50),
  platform_version VARCHAR(50),
  latitude DECIMAL(9,6),
  longitude DECIMAL(9,6),
  country_code CHAR(2),
  session_id VARCHAR(36),
  start_time BIGINT,
  end_time BIGINT,
  KEY (page_id, activity_dt),
  KEY (country_code)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
