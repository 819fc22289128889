/** What a program gets that inherits nothing. */
export const fixedEnvironment = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C.UTF-8', TZ: 'UTC' }

/** A small, fixed environment: messages in English (they are parsed by prefix), UTC, nothing of PG*. */
export function cleanEnvironment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const kept: Record<string, string> = {}
  for (const name of ['PATH', 'HOME', 'TMPDIR', 'KRB5CCNAME', 'LD_LIBRARY_PATH']) {
    const value = process.env[name]
    if (value !== undefined) kept[name] = value
  }
  const { PATH, ...fixed } = fixedEnvironment
  return { PATH, ...kept, ...fixed, ...extra }
}
