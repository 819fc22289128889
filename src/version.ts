import { readFileSync } from 'node:fs'
import { packageUrl } from './scripts.ts'

export interface Version {
  readonly version: string
  /** The commit that the package was built from; `unknown` in a working tree. */
  readonly revision: string
}

/** Lifeboat's own version, as package.json has it. */
export function readVersion(): Version {
  const { version, gitHead } = JSON.parse(readFileSync(packageUrl, 'utf8')) as {
    version: string
    gitHead?: string
  }
  return { version, revision: gitHead ?? 'unknown' }
}
