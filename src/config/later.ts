/**
 * Keys that people will look for, because backup tools have them, and that this version does not have. Accepting them
 * would be a promise: whoever writes `encryption` believes that nobody else can read the backups.
 */
const later: Readonly<Record<string, string>> = {
  'repositories.region': 'does not store backups in s3 yet',
  'repositories.endpoint': 'does not store backups in s3 yet',
  'repositories.pathStyle': 'does not store backups in s3 yet',
  'repositories.storageClass': 'does not store backups in s3 yet',
  'repositories.serverSideEncryption': 'does not store backups in s3 yet',
  encryption: 'does not encrypt backups yet',
}

export const laterKeys: readonly string[] = Object.keys(later)

/** What this version does not do yet, if the key (dotted, without indexes) belongs to it. */
export function comesLater(key: string): string | undefined {
  return Object.hasOwn(later, key) ? `this version ${later[key]}` : undefined
}
