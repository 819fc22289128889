import { walRetentionReasons } from '../domain/wal-retention.ts'
import type { WalTold } from '../observe/wal-preview.ts'
import { formatBytes, table } from './format.ts'

/** For people. */
export function walText(repository: string, told: readonly WalTold[]): string {
  return told.map((one) => systemText(repository, one)).join('')
}

function systemText(repository: string, { systemIdentifier, backups, parts }: WalTold): string {
  const sum = (keep: boolean) => {
    const some = parts.filter((part) => part.keep === keep)
    const files = some.reduce((total, part) => total + part.files, 0)
    return `${files} (${formatBytes(some.reduce((total, part) => total + part.bytes, 0))})`
  }
  const summary = `${repository}: WAL of ${systemIdentifier}: ${sum(false)} files would go, ${sum(true)} stay\n`
  const none =
    backups === 0
      ? `${repository}: no physical backup of it is here: what stays may serve base backups of others\n`
      : ''
  const rows = parts.map(({ timeline, keep, reason, backupId, files, bytes }) => [
    `  ${timeline}`,
    String(files),
    formatBytes(bytes),
    keep ? 'stays' : 'goes',
    `${walRetentionReasons[reason]}${backupId === null ? '' : ` (${backupId})`}`,
  ])
  return `${summary}${none}${table([['  TIMELINE', 'FILES', 'SIZE', 'DECISION', 'WHY'], ...rows])}`
}
