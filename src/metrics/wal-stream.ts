import type { StreamState } from '../domain/stream.ts'
import type { Catalog } from '../observe/catalog.ts'
import type { MetricWriter } from './snapshot.ts'

/** What is known of slots and the receiver besides the catalog. */
export interface StreamTellings {
  readonly slotLimitBytes: number
  /** Null: WAL is not received. */
  readonly stream: () => StreamState | null
}

export function writeStreamTellings(
  metrics: MetricWriter,
  { wal }: Catalog,
  { slotLimitBytes, stream }: StreamTellings,
): void {
  writeSlots(metrics, wal?.slots ?? null, slotLimitBytes)
  writeStream(metrics, stream())
}

type Slots = NonNullable<Catalog['wal']>['slots']

/**
 * The replication slots, as old as their collector says, and the limit that they are held against.
 *
 * @param slots null: not looked at yet, or not at all
 */
export function writeSlots(metrics: MetricWriter, slots: Slots, limitBytes: number): void {
  metrics.set('lifeboat_policy_slot_retained_bytes', {}, limitBytes)
  if (slots === null) return
  for (const { name: slot, active, retainedBytes, walStatus } of slots) {
    metrics.set('lifeboat_replication_slot_retained_bytes', { slot }, retainedBytes)
    metrics.set('lifeboat_replication_slot_active', { slot }, active)
    metrics.set('lifeboat_replication_slot_lost', { slot }, walStatus === null ? null : walStatus === 'lost')
  }
}

/** The receiver of WAL. Null: there is none. */
export function writeStream(metrics: MetricWriter, stream: StreamState | null): void {
  if (stream === null) return
  metrics.set('lifeboat_wal_stream_up', {}, stream.isUp)
  metrics.set('lifeboat_wal_stream_failures_total', {}, stream.failures)
  metrics.set('lifeboat_wal_stream_holes_total', {}, stream.holes)
}
