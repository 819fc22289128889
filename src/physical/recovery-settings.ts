import { formatLsn } from '../domain/lsn.ts'
import type { RecoveryStop } from '../domain/recovery-plan.ts'
import type { ControlData } from '../postgres/control-data.ts'
import { openTablespacesCommand } from './closed-tablespaces.ts'

/** What a server does when it has come to its target. */
export type RecoveryAction = 'promote' | 'pause'

/**
 * A server that recovers is reached through its socket alone, archives nowhere, loads nothing, and asks nobody for
 * anything but WAL. Of what the backed-up server had set nothing is taken over: its configuration may lie elsewhere, name
 * standbys that a commit would wait for, or archive.
 */
const aloneSettings: Readonly<Record<string, string>> = {
  listen_addresses: '',
  archive_mode: 'off',
  ssl: 'off',
  logging_collector: 'off',
  log_destination: 'stderr',
  log_line_prefix: '%m [%p] ',
  log_min_messages: 'warning',
  lc_messages: 'C',
  shared_preload_libraries: '',
  session_preload_libraries: '',
  local_preload_libraries: '',
  synchronous_standby_names: '',
  primary_conninfo: '',
  primary_slot_name: '',
  archive_cleanup_command: '',
  max_logical_replication_workers: '0',
  huge_pages: 'off',
  shared_buffers: '128MB',
}

/** The settings of the server for one recovery, by name. The order counts: a second target is refused. */
export function recoverySettings(options: {
  readonly control: ControlData
  readonly serverMajor: number
  readonly restoreCommand: string
  readonly timeline: number
  readonly stop: RecoveryStop
  readonly action: RecoveryAction
}): Readonly<Record<string, string>> {
  const { control, serverMajor, action } = options
  return {
    ...aloneSettings,
    // Many files were just written, and one call for each would take minutes.
    ...(serverMajor >= 14 && process.platform === 'linux' ? { recovery_init_sync_method: 'syncfs' } : {}),
    ...(serverMajor >= 15 ? { log_startup_progress_interval: '1s' } : {}),
    ...(serverMajor >= 17 ? { summarize_wal: 'off', sync_replication_slots: 'off' } : {}),
    ...Object.fromEntries(Object.entries(control.limits).map(([name, value]) => [name, String(value)])),
    // With it a server takes connections before it has come to the end; without, none is paused.
    hot_standby: action === 'pause' ? 'on' : 'off',
    ...targetSettings(options),
  }
}

/** What tells a server how far to go: also what stands in the `postgresql.auto.conf` of a restored one. */
export function targetSettings({
  restoreCommand,
  timeline,
  stop,
  action,
}: {
  readonly restoreCommand: string
  readonly timeline: number
  readonly stop: RecoveryStop
  readonly action: RecoveryAction
}): Readonly<Record<string, string>> {
  return {
    restore_command: restoreCommand,
    recovery_end_command: openTablespacesCommand,
    recovery_target_timeline: String(timeline),
    recovery_target_action: action,
    recovery_target_inclusive: 'on',
    ...onlyTarget(stop),
  }
}

const targetNames = ['recovery_target', 'recovery_target_time', 'recovery_target_lsn', 'recovery_target_name'] as const

/** One that stands in a file as well would be a second target: the others are made empty, and before this one is set. */
function onlyTarget(stop: RecoveryStop): Readonly<Record<string, string>> {
  const [name = null, value = ''] = targetOf(stop)
  const others = targetNames.filter((one) => one !== name).map((one) => [one, ''])
  return { ...Object.fromEntries(others), ...(name === null ? {} : { [name]: value }) }
}

function targetOf(stop: RecoveryStop): readonly [name: (typeof targetNames)[number], value: string] | readonly [] {
  switch (stop.kind) {
    case 'end':
      return []
    case 'immediate':
      return ['recovery_target', 'immediate']
    case 'time':
      return ['recovery_target_time', stop.text]
    case 'lsn':
      return ['recovery_target_lsn', formatLsn(stop.lsn)]
    case 'name':
      return ['recovery_target_name', stop.name]
  }
}

/** A line of a configuration file. Source: https://www.postgresql.org/docs/current/config-setting.html */
export function settingLine(name: string, value: string): string {
  return `${name} = '${value.replaceAll('\\', '\\\\').replaceAll("'", "''").replaceAll('\n', '\\n')}'\n`
}
