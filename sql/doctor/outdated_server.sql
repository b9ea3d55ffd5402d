-- name: outdated_server
-- level: warning
-- summary: The server lacks fixes of row-level security.
-- ramification: Its release is older than those of 2026-11-12, which closed ways around row-level security (CVE-2026-116327, CVE-2026-120154).
-- resolution: Update to the newest minor release; no dump is needed.

select 'warning', null, format('PostgreSQL %s.%s', v.major, v.minor),
    'is older than the releases of 2026-11-12, which closed ways around row-level security',
    format('update the server to a release after %s.%s', f.major, f.minor)
  from (select current_setting('server_version_num')::integer / 10000 as major, current_setting('server_version_num')::integer % 10000 as minor) v
  -- The last minor release without the fixes.
  join (values (15, 19), (16, 15), (17, 11), (18, 6)) f (major, minor) on f.major = v.major and v.minor <= f.minor
