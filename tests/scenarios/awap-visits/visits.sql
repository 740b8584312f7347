CREATE TABLE visits (
  visit_id STRING, event_time TIMESTAMP, user_id STRING, keep_private BOOLEAN, page STRING,
  context STRUCT<referral: STRING, ad_id: STRING,
    user: STRUCT<ip: STRING, login: STRING, connected_since: TIMESTAMP>,
    technical: STRUCT<browser: STRING, browser_version: STRING, network_type: STRING, device_type: STRING, device_version: STRING>>
)
