/**
 * Keys that people will look for, because backup tools have them, and that this version does not have. Accepting them
 * would be a promise: whoever writes `encryption` believes that nobody else can read the backups.
 */
const later: Readonly<Record<string, string>> = {
  encryption: 'does not encrypt backups yet',
}

export const laterKeys: readonly string[] = Object.keys(later)

/** What this version does not do yet, if the key (dotted, without indexes) belongs to it. */
export function comesLater(key: string): string | undefined {
  return Object.hasOwn(later, key) ? `this version ${later[key]}` : undefined
}
