import type { Session } from './connection.ts'

interface DatabaseRow {
  readonly name: string
  readonly owner: string
  readonly limit: number
  readonly acl: readonly string[]
  /** `name=value` of the database; `role: name=value` of a role in it. */
  readonly settings: readonly string[]
}

/**
 * What a swap of the names leaves with the former database, or changes without a word: logical replication slots and
 * subscriptions belong to a database by its OID, and what was changed about the database since the dump is not in it.
 * Sentences for people. Of settings only the names: their values may be secrets.
 * Source: https://www.postgresql.org/docs/current/view-pg-replication-slots.html, catalog-pg-subscription.html
 */
export async function leftBehind(
  session: Session,
  { name, replacement }: { readonly name: string; readonly replacement: string },
): Promise<readonly string[]> {
  const slots = await session.query<{ slot: string }>(
    `select slot_name as slot from pg_replication_slots where slot_type = 'logical' and database = $1 order by 1`,
    [name],
  )
  const subscriptions = await session.query<{ subscription: string }>(
    `select subname as subscription from pg_subscription where subdbid = (select oid from pg_database where datname = $1) order by 1`,
    [name],
  )
  const rows = await session.query<DatabaseRow>(
    `select datname as name, pg_get_userbyid(datdba) as owner, datconnlimit as limit,
       array(select a::text from unnest(coalesce(datacl, acldefault('d', datdba))) a order by 1) as acl,
       array(select case when setrole = 0 then '' else pg_get_userbyid(setrole) || ': ' end || setting
         from pg_db_role_setting, unnest(setconfig) as setting where setdatabase = d.oid order by 1) as settings
     from pg_database d where datname = any($1)`,
    [[name, replacement]],
  )
  const [former, restored] = [name, replacement].map((one) => rows.find((row) => row.name === one))
  return [
    ...slots.map(({ slot }) => `the logical replication slot ${JSON.stringify(slot)} stays with the former database`),
    ...subscriptions.map(
      ({ subscription }) =>
        `the subscription ${JSON.stringify(subscription)} stays with the former database and goes on there`,
    ),
    ...(former === undefined || restored === undefined ? [] : differences(former, restored)),
  ]
}

function differences(former: DatabaseRow, restored: DatabaseRow): readonly string[] {
  const found: string[] = []
  if (former.owner !== restored.owner)
    found.push(`the owner is ${JSON.stringify(restored.owner)}, was ${JSON.stringify(former.owner)}`)
  if (former.limit !== restored.limit) found.push(`the connection limit is ${restored.limit}, was ${former.limit}`)
  const lost = former.acl.filter((item) => !restored.acl.includes(item))
  const gained = restored.acl.filter((item) => !former.acl.includes(item))
  if (lost.length > 0) found.push(`privileges on the former database that the restored one has not: ${lost.join(', ')}`)
  if (gained.length > 0)
    found.push(`privileges on the restored database that the former one has not: ${gained.join(', ')}`)
  const changed = [
    ...former.settings.filter((line) => !restored.settings.includes(line)),
    ...restored.settings.filter((line) => !former.settings.includes(line)),
  ]
  const names = [...new Set(changed.map((line) => line.slice(0, line.indexOf('='))))]
  if (names.length > 0) found.push(`settings that are not as in the former database: ${names.join(', ')}`)
  return found
}
