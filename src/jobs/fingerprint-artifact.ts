import { type Fingerprint, fingerprintFormatVersion } from '../domain/fingerprint.ts'
import { VerdictError } from './level-recorder.ts'

/**
 * The fingerprint among a backup's artifacts, whose bytes have just been compared with their hash; null when it has none.
 *
 * @throws VerdictError `inconclusive` for a format that this version does not know, `fail` for what is no fingerprint
 */
export function parseFingerprint(files: ReadonlyMap<string, string>): Fingerprint | null {
  const text = files.get('fingerprint.json')
  if (text === undefined) return null
  const parsed = parseObject(text)
  if (parsed !== null && typeof parsed.formatVersion === 'number') {
    if (parsed.formatVersion !== fingerprintFormatVersion)
      throw new VerdictError(
        'inconclusive',
        'fingerprint-unknown',
        'fingerprint',
        `this version cannot read fingerprints of format ${parsed.formatVersion}`,
      )
    if (isFingerprint(parsed)) return parsed
  }
  throw new VerdictError('fail', 'fingerprint-invalid', 'fingerprint', 'fingerprint.json is not a fingerprint')
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text)
    return isRecord(value) ? value : null
  } catch {
    return null
  }
}

/** What the comparison goes through must be there; that values are what they should be is for the comparison to say. */
function isFingerprint(value: Record<string, unknown>): value is Record<string, unknown> & Fingerprint {
  const lists = ['settings', 'extensions', 'collations', 'tables', 'warnings'].every((key) => Array.isArray(value[key]))
  const records = ['extensions', 'collations', 'tables'].every(
    (key) => lists && (value[key] as unknown[]).every(isRecord),
  )
  const { largeObjects } = value
  return (
    records && isRecord(value.database) && isRecord(value.objects) && (largeObjects === null || isRecord(largeObjects))
  )
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
