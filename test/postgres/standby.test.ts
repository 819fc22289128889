import t from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { baseBackupFailure, isIncrementalRefused } from '../../src/postgres/base-backup.ts'
import { whyUnfit } from '../../src/postgres/standby.ts'

const primary = { systemIdentifier: '7', timeline: 2, inRecovery: false, fullPageWrites: true }
const standby = { systemIdentifier: '7', timeline: 2, inRecovery: true, summarizesWal: true, tablespaces: [] }

t.test('a standby that can stand in for its primary, and those that cannot', async (t) => {
  t.equal(whyUnfit(standby, primary), null)
  const why = (one: object, other: object = {}) => whyUnfit({ ...standby, ...one }, { ...primary, ...other })?.why
  t.match(why({ systemIdentifier: '8' }), /another cluster: its system identifier is 8, that of the primary 7/)
  t.match(why({ inRecovery: false }), /it is no standby/)
  // It may have gone past the fork, and then nothing of it fits the WAL that is stored.
  t.match(why({ timeline: 1 }), /it replays timeline 1, and the primary is on 2/)
  t.match(why({}, { fullPageWrites: false }), /full_page_writes is off/)
})

t.test('what pg_basebackup says', async (t) => {
  const failed = (stderr: string) =>
    new LifeboatError('program-failed', 'pg_basebackup failed', { details: { stderr } })
  const failure = (stderr: string) => baseBackupFailure(failed(stderr))
  const basebackup = 'pg_basebackup: error: could not initiate base backup: ERROR:  '
  t.match(failure(`${basebackup}WAL generated with "full_page_writes=off" was replayed since last restartpoint`), {
    code: 'server-error',
    hint: /full_page_writes = on/,
  })
  t.match(failure(`pg_basebackup: error: backup failed: ERROR:  the standby was promoted during online backup`), {
    code: 'server-error',
    hint: /postgres\.host/,
  })
  const connection = 'pg_basebackup: error: connection to server on socket "/s/.s.PGSQL.5432" failed: FATAL:  '
  for (const name of ['max_wal_senders', '"max_wal_senders"'])
    t.match(failure(`${connection}number of requested standby connections exceeds ${name} (currently 2)`), {
      code: 'server-unreachable',
      hint: /raise max_wal_senders/,
    })
  t.match(
    failure(`${connection}pg_hba.conf rejects replication connection for host "[local]", user "u", no encryption`),
    {
      code: 'server-authentication',
      hint: /pg_hba\.conf/,
    },
  )
  for (const refused of [
    'WAL summarization is not progressing',
    'WAL summaries are required on timeline 1 from 0/2000028 to 0/4000028, but no summaries for that timeline and LSN range exist',
    'manifest requires WAL from final timeline 1 ending at 0/5000100, but this backup starts at 0/4000028',
  ])
    t.ok(isIncrementalRefused(failure(`${basebackup}${refused}`)), refused)
})
