import { recoveryPoint, rpo } from '../../src/metrics/queries.ts'
import { assemble, uids } from './frame.ts'
import { colours, noYes, type Words } from './looks.ts'
import { seriesPanel, statPanel, timelinePanel } from './panels.ts'
import { age, known, moment, since, unknown } from './promql.ts'
import { tablePanel } from './tables.ts'

const byRepository = 'cluster_name, repository'
const legend = '{{cluster_name}} {{repository}}'
const ofRepository = (metric: string) => `max by (${byRepository}) (${metric})`
const ofCluster = (metric: string) => `max by (cluster_name) (${metric})`
const bySlot = (metric: string) => `max by (cluster_name, slot) (${metric})`
const rate = (metric: string, by: string) => `max by (${by}) (rate(${metric}[$__rate_interval]))`

/** States of the archiver as numbers, the worst last. */
const states = ['archiving', 'idle', 'off', 'lagging', 'failing', 'hung', 'lying'] as const

const stateWords: Words = Object.fromEntries(
  states.map((state, index) => [
    index,
    [state, index < 2 ? colours.good : index === 2 ? colours.plain : index === 3 ? colours.late : colours.bad],
  ]),
)

/** One number for each cluster: of two sidecars that differ the worse. */
const archiver = ofCluster(
  states.map((state, index) => `(lifeboat_wal_archiver_state{state="${state}"} == 1) * 0 + ${index}`).join(' or '),
)

const window = `(${ofRepository('lifeboat_recovery_point_timestamp_seconds')} - min by (${byRepository}) (lifeboat_recovery_window_start_timestamp_seconds))`

export const wal = assemble({
  uid: uids.wal,
  title: 'WAL and recovery point',
  description: 'Whether the WAL gets from the server into every repository, and to which moments it can be replayed.',
  range: '24h',
  sections: [
    {
      title: '',
      panels: [
        statPanel({
          id: 1,
          title: 'Archiver',
          description:
            'What the archiver of the server does. `lying`: a file counts as archived and is not in the archive. docs/operations.md has what to do about each state.',
          unit: 'none',
          width: 6,
          targets: [{ query: known(archiver), legend: '{{cluster_name}}' }],
          judgement: 'plain',
          isFilled: true,
          words: stateWords,
        }),
        statPanel({
          id: 2,
          title: 'Recovery point objective used',
          description:
            'How old the recovery point of the best repository is, as a share of the objective. From 100 % on more work would be lost than is allowed.',
          unit: 'percentunit',
          width: 6,
          targets: [{ query: known(`${since(recoveryPoint('cluster_name'))} / ${rpo}`), legend: '{{cluster_name}}' }],
          judgement: 'below-1',
          decimals: 0,
        }),
        statPanel({
          id: 3,
          title: 'Missing segments',
          description:
            'Holes in the WAL of the repositories, all together. No recovery gets past one: take a physical backup.',
          unit: 'short',
          width: 6,
          targets: [
            {
              query: known(`sum by (cluster_name) (${ofRepository('lifeboat_wal_missing_segments')})`),
              legend: '{{cluster_name}}',
            },
          ],
          judgement: 'below-1',
        }),
        statPanel({
          id: 4,
          title: 'Receiver',
          description: 'Whether the receiver of WAL gets on (`wal.stream`).',
          unit: 'none',
          width: 6,
          targets: [
            {
              query: known(ofCluster('lifeboat_wal_stream_up')),
              legend: '{{cluster_name}}',
            },
          ],
          judgement: 'at-1',
          words: { 0: ['stuck', colours.bad], 1: ['receives', colours.good], [unknown]: ['not used', colours.plain] },
        }),
        tablePanel({
          id: 5,
          title: 'WAL of each repository',
          description:
            'Backlog: finished by the server, and not stored there yet. Exposed: what would be lost with the server. Quarantined files are damaged, or of another cluster: they are not stored.',
          unit: 'none',
          width: 24,
          height: 6,
          rows: { cluster_name: 'Cluster', repository: 'Repository' },
          columns: [
            {
              title: 'Recovery point',
              query: moment(recoveryPoint(byRepository)),
              unit: 'dateTimeFromNow',
              absent: 'nothing',
            },
            { title: 'Window', query: window, unit: 's', absent: 'no window' },
            {
              title: 'Missing',
              query: ofRepository('lifeboat_wal_missing_segments'),
              unit: 'short',
              judgement: 'below-1',
            },
            { title: 'Backlog', query: ofRepository('lifeboat_wal_backlog_bytes'), unit: 'bytes' },
            { title: 'Exposed', query: ofRepository('lifeboat_recovery_exposure_bytes'), unit: 'bytes' },
            {
              title: 'Quarantined',
              query: ofRepository('lifeboat_wal_quarantined_files'),
              unit: 'short',
              judgement: 'below-1',
              absent: 'not shipped',
            },
          ],
        }),
      ],
    },
    {
      title: 'Recovery point',
      panels: [
        seriesPanel({
          id: 6,
          title: 'Age of the recovery point',
          description: 'Above the line the recovery point objective is missed.',
          unit: 's',
          width: 12,
          targets: [
            { query: age(recoveryPoint(byRepository)), legend },
            { query: rpo, legend: '{{cluster_name}} limit' },
          ],
        }),
        seriesPanel({
          id: 7,
          title: 'Recovery window',
          description: 'Every moment of this span can be restored. It becomes short when a hole comes into the WAL.',
          unit: 's',
          width: 12,
          absent: 'no physical backup, or unknown',
          targets: [
            { query: window, legend },
            { query: ofRepository('lifeboat_policy_recovery_window_seconds'), legend: `${legend} promised` },
          ],
        }),
        seriesPanel({
          id: 8,
          title: 'Exposed and waiting',
          description: 'What would be lost with the server, and how much of it waits as whole segments.',
          unit: 'bytes',
          width: 12,
          targets: [
            { query: ofRepository('lifeboat_recovery_exposure_bytes'), legend: `${legend} exposed` },
            { query: ofRepository('lifeboat_wal_backlog_bytes'), legend: `${legend} backlog` },
          ],
        }),
        seriesPanel({
          id: 9,
          title: 'Predicted time to recover',
          description:
            'The whole cluster to the latest moment. Above the line the recovery time objective would be missed.',
          unit: 's',
          width: 12,
          absent: 'not measured, or unknown',
          targets: [
            { query: ofRepository('lifeboat_recovery_predicted_seconds'), legend },
            { query: ofCluster('lifeboat_policy_rto_seconds'), legend: '{{cluster_name}} limit' },
          ],
        }),
      ],
    },
    {
      title: 'From the server into the archive',
      panels: [
        timelinePanel({
          id: 10,
          title: 'State of the archiver',
          description: 'As it was at each moment.',
          unit: 'none',
          width: 24,
          height: 5,
          targets: [{ query: archiver, legend: '{{cluster_name}}' }],
          judgement: 'plain',
          words: stateWords,
        }),
        seriesPanel({
          id: 11,
          title: 'Archived segments',
          description: 'A second, as the server counts them, with the attempts that failed.',
          unit: 'cps',
          width: 12,
          targets: [
            {
              query: rate('lifeboat_wal_archived_segments_total', 'cluster_name'),
              legend: '{{cluster_name}} archived',
            },
            { query: rate('lifeboat_wal_archive_failures_total', 'cluster_name'), legend: '{{cluster_name}} failed' },
          ],
        }),
        seriesPanel({
          id: 12,
          title: 'Archive directory',
          description:
            'What is in it, and the room that is left: when it is full, the server keeps its WAL, and stops when its own disk is full.',
          unit: 'bytes',
          width: 12,
          absent: 'no archive directory, or unknown',
          targets: [
            { query: ofCluster('lifeboat_wal_archive_size_bytes'), legend: '{{cluster_name}} used' },
            { query: 'min by (cluster_name) (lifeboat_wal_archive_free_bytes)', legend: '{{cluster_name}} free' },
            { query: ofCluster('lifeboat_wal_archive_capacity_bytes'), legend: '{{cluster_name}} limit' },
          ],
        }),
        seriesPanel({
          id: 13,
          title: 'Segments in the archive',
          description: 'They leave it once every repository has them.',
          unit: 'short',
          width: 12,
          absent: 'no archive directory, or unknown',
          targets: [{ query: ofCluster('lifeboat_wal_archive_segments'), legend: '{{cluster_name}}' }],
        }),
        seriesPanel({
          id: 14,
          title: 'Age of the newest segment in the archive',
          description: 'On an idle server it grows: nothing is wrong then.',
          unit: 's',
          width: 12,
          absent: 'no archive directory, or unknown',
          targets: [
            {
              query: age(ofCluster('lifeboat_wal_archive_last_segment_timestamp_seconds')),
              legend: '{{cluster_name}}',
            },
          ],
        }),
        seriesPanel({
          id: 15,
          title: 'Receiver: failures and holes',
          description:
            'Times within a day at which the receiver failed, or had to begin behind WAL that the server had no longer.',
          unit: 'short',
          width: 12,
          absent: 'not used, or unknown',
          targets: [
            {
              query: 'max by (cluster_name) (increase(lifeboat_wal_stream_failures_total[1d]))',
              legend: '{{cluster_name}} failures',
            },
            {
              query: 'max by (cluster_name) (increase(lifeboat_wal_stream_holes_total[1d]))',
              legend: '{{cluster_name}} holes',
            },
          ],
        }),
        seriesPanel({
          id: 16,
          title: 'Kept for replication slots',
          description:
            'Above the line a slot keeps too much. One that nobody uses keeps WAL until the disk of the server is full.',
          unit: 'bytes',
          width: 12,
          absent: 'no slot keeps WAL, or unknown',
          targets: [
            { query: bySlot('lifeboat_replication_slot_retained_bytes'), legend: '{{cluster_name}} {{slot}}' },
            { query: ofCluster('lifeboat_policy_slot_retained_bytes'), legend: '{{cluster_name}} limit' },
          ],
        }),
        tablePanel({
          id: 17,
          title: 'Replication slots',
          description: 'A lost slot: who receives with it misses WAL.',
          unit: 'none',
          width: 24,
          height: 5,
          absent: 'no slot, or unknown',
          rows: { cluster_name: 'Cluster', slot: 'Slot' },
          columns: [
            {
              title: 'In use',
              query: bySlot('lifeboat_replication_slot_active'),
              unit: 'none',
              judgement: 'at-1',
              words: { 0: ['no', colours.late], 1: ['yes', colours.good] },
            },
            {
              title: 'Lost',
              query: bySlot('lifeboat_replication_slot_lost'),
              unit: 'none',
              judgement: 'below-1',
              words: noYes,
            },
            {
              title: 'Keeps',
              query: bySlot('lifeboat_replication_slot_retained_bytes'),
              unit: 'bytes',
              absent: 'nothing',
            },
          ],
        }),
      ],
    },
    {
      title: 'From the archive into the repositories',
      panels: [
        seriesPanel({
          id: 18,
          title: 'Shipped segments',
          description: 'A second, with the attempts that failed: each is made again.',
          unit: 'cps',
          width: 12,
          absent: 'not shipped, or unknown',
          targets: [
            { query: rate('lifeboat_wal_shipped_segments_total', byRepository), legend: `${legend} shipped` },
            { query: rate('lifeboat_wal_ship_failures_total', byRepository), legend: `${legend} failed` },
          ],
        }),
        seriesPanel({
          id: 19,
          title: 'Delay of shipping',
          description: 'From the writing of the newest shipped segment until it was stored.',
          unit: 's',
          width: 12,
          absent: 'nothing was shipped, or unknown',
          targets: [{ query: ofRepository('lifeboat_wal_ship_delay_seconds'), legend }],
        }),
        seriesPanel({
          id: 20,
          title: 'Size of the stored WAL',
          description: 'As it is stored, compressed.',
          unit: 'bytes',
          width: 12,
          targets: [{ query: ofRepository('lifeboat_wal_size_bytes'), legend }],
        }),
        seriesPanel({
          id: 21,
          title: 'Stored segments',
          description: 'Of all clusters that ever were there.',
          unit: 'short',
          width: 12,
          targets: [{ query: ofRepository('lifeboat_wal_segments'), legend }],
        }),
      ],
    },
  ],
})
