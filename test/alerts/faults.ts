import { readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Manifest } from '../../src/domain/backup.ts'
import { flipBit, writeManifest } from '../support/tamper.ts'
import { finishSegment } from '../support/wal-ground.ts'
import { type Fleet, hourAgo, putDump } from './fleet.ts'

/** Something goes wrong, is told of in these words, and is put right. */
export interface Fault {
  readonly what: string
  readonly severity: 'critical' | 'warning'
  /** All but the severity. */
  readonly labels: Readonly<Record<string, string>> & { readonly alertname: string }
  readonly summary: string
  readonly description: RegExp
  /** Grafana's, with the cluster chosen. */
  readonly dashboard: string
  readonly breaks: () => Promise<unknown>
  readonly mend: () => Promise<unknown>
}

const harbour = { cluster_name: 'harbour' }
const threeDaysMs = 3 * 86_400_000
const ofHarbour = (dashboard: string, panel: number) =>
  `/d/lifeboat-${dashboard}?var-cluster_name=harbour&viewPanel=${panel}`
const log = (words: string) => `\`journalctl --unit lifeboat --output cat \\| grep '${words}'\``

/** They stand beside each other: none holds back another (`inhibit_rules`). */
export function faultsOf(fleet: Fleet): readonly Fault[] {
  const { nightly, weekly, run, folder } = fleet
  return [
    {
      what: 'a stale backup',
      severity: 'critical',
      labels: {
        alertname: 'LifeboatBackupTooOld',
        ...harbour,
        repository: 'local',
        backup_type: 'dump',
        database: 'ledger',
      },
      summary: 'harbour: local has no recent dump backup of ledger',
      description: new RegExp(
        `^The newest one is 3d 0h \\d+m \\d+s old, more than lifeboat_policy_backup_max_age_seconds allows\\. First: ${log('backup failed')}, then \`lifeboat backup\`\\.$`,
      ),
      dashboard: ofHarbour('backups', 5),
      breaks: () => age(folder('local', 'ledger'), threeDaysMs),
      mend: () => run('backup', { database: 'ledger' }),
    },
    {
      // Of one that is left in another repository the next run makes a copy.
      what: 'a deleted backup',
      severity: 'warning',
      labels: { alertname: 'LifeboatBackupNeverCompleted', ...harbour, backup_type: 'dump', database: 'orders' },
      summary: 'harbour: there is no dump backup of orders',
      description: new RegExp(
        `^It must be backed up, and no repository has a complete backup of it: none ever was, or all were deleted\\. .* First: \`lifeboat backup\`; if it fails, ${log('backup failed')}\\.$`,
      ),
      dashboard: ofHarbour('backups', 2),
      breaks: () =>
        Promise.all((['local', 'offsite'] as const).map((name) => rm(folder(name, 'orders'), { recursive: true }))),
      mend: () => run('backup', { database: 'orders' }),
    },
    {
      what: 'a failing verification',
      severity: 'critical',
      labels: {
        alertname: 'LifeboatVerificationFailed',
        ...harbour,
        ...{ repository: 'offsite', backup_type: 'dump', database: 'parts', level: 'artifact' },
      },
      summary: 'harbour: offsite: a dump backup of parts was found to be bad',
      description: new RegExp(
        `^It failed its verification at the level artifact: it would not bring back what was saved\\. It holds until a later one passes\\. First: ${log('verification ended')}, then \`lifeboat backup\` for a new one\\.$`,
      ),
      dashboard: ofHarbour('verification', 4),
      breaks: async () => {
        await flipBit(join(folder('offsite', 'parts'), 'dump.tar'))
        await run('verify', { repository: 'offsite', database: 'parts', level: 'artifact' })
      },
      mend: async () => {
        await run('backup', { database: 'parts' })
        await run('verify', { repository: 'offsite', database: 'parts', level: 'artifact' })
      },
    },
    {
      what: 'a stopped archiver',
      severity: 'critical',
      labels: { alertname: 'LifeboatWalArchivingFailing', ...harbour },
      summary: 'harbour: the server fails to archive its WAL',
      description:
        /^archive_command ends with an error\. .* First: `lifeboat wal status`, then the log of the server: it has what archive_command said\.$/,
      dashboard: ofHarbour('wal', 10),
      breaks: () => archive(fleet, false),
      mend: () => archive(fleet, true),
    },
    {
      what: 'a truncated file',
      severity: 'warning',
      labels: { alertname: 'LifeboatExternalBackupBroken', ...harbour, repository: 'nightly', state: 'truncated' },
      summary: 'harbour: nightly holds dumps that cannot be restored',
      description: new RegExp(
        `^1 files are truncated\\. .* the alert holds until they are moved away\\. First: \`lifeboat list\` names them, and ${log('no whole dump')} what is wrong\\.$`,
      ),
      dashboard: ofHarbour('backups', 18),
      breaks: async () => cutOff(await fileOf(nightly, 'crm')),
      mend: async () => {
        const broken = await fileOf(nightly, 'crm')
        await putDump(nightly, 'crm', new Date())
        await rm(broken)
      },
    },
    {
      what: 'the last dump of a database deleted',
      severity: 'warning',
      labels: {
        alertname: 'LifeboatExternalDatabaseGone',
        ...harbour,
        ...{ repository: 'nightly', backup_type: 'external', database: 'wiki' },
      },
      summary: 'harbour: nightly has lost all dumps of wiki',
      description:
        /^Within the last week there were some\. .* First: `lifeboat list`, then the clean-up of that tool\.$/,
      dashboard: ofHarbour('backups', 5),
      breaks: async () => rm(await fileOf(nightly, 'wiki')),
      mend: () => putDump(nightly, 'wiki', hourAgo()),
    },
    {
      what: 'a stale dump of another tool',
      severity: 'critical',
      labels: {
        alertname: 'LifeboatExternalBackupTooOld',
        ...harbour,
        ...{ repository: 'weekly', backup_type: 'external', database: 'crm' },
      },
      summary: 'harbour: weekly has no recent dump of crm',
      description:
        /^The newest whole one is 3d 0h \d+m \d+s old, more than its maxAge\. .* First: `lifeboat list`, then the log of that tool\.$/,
      dashboard: ofHarbour('backups', 6),
      breaks: async () => {
        const newest = await fileOf(weekly, 'crm')
        await putDump(weekly, 'crm', new Date(Date.now() - threeDaysMs))
        await rm(newest)
      },
      mend: () => putDump(weekly, 'crm', hourAgo()),
    },
    {
      what: 'a killed sidecar',
      severity: 'critical',
      labels: { alertname: 'LifeboatClusterVanished', cluster_name: 'lighthouse' },
      summary: 'lighthouse is not watched any more',
      description:
        /^Within the last day there was a sidecar for it, and there is none now: no other alert tells of it\. First: `systemctl status lifeboat`, and its log\.$/,
      dashboard: '/d/lifeboat-sidecar?var-cluster_name=lighthouse&viewPanel=1',
      breaks: fleet.killLighthouse,
      mend: fleet.restartLighthouse,
    },
  ]
}

/** Makes a backup of a repository one that was taken so long ago. */
async function age(directory: string, byMs: number): Promise<void> {
  const manifest = JSON.parse(await readFile(join(directory, 'manifest.json'), 'utf8')) as Manifest
  const earlier = ({ time, ...moment }: Manifest['start']) => ({
    ...moment,
    time: new Date(Date.parse(time) - byMs).toISOString(),
  })
  await writeManifest(directory, { ...manifest, start: earlier(manifest.start), stop: earlier(manifest.stop) })
}

/** Finishes a segment while archive_command works, or while it fails. */
async function archive({ cluster, archive: directory }: Fleet, works: boolean): Promise<void> {
  const stop = join(directory, '.stop')
  await (works ? rm(stop) : writeFile(stop, ''))
  await finishSegment(cluster)
}

/** What is left of a file when its writer dies halfway; it was quiet since. */
async function cutOff(path: string): Promise<void> {
  const { size, mtime } = await stat(path)
  await truncate(path, Math.floor(size / 2))
  await utimes(path, mtime, mtime)
}

/** The newest dump of a database. */
async function fileOf(directory: string, database: string): Promise<string> {
  const name = (await readdir(directory)).toSorted().findLast((one) => one.startsWith(`${database}_`))
  if (name === undefined) throw new Error(`no dump of ${database} in ${directory}`)
  return join(directory, name)
}
