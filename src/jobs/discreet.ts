import type { Proof } from '../domain/proof.ts'

const instead = 'not told here, since the backup is encrypted: see the run that verified it'

/**
 * The levels of a proof of an encrypted backup as the repository may know them: what PostgreSQL, or an assertion, said of a restored
 * copy can quote its rows. Names of checks and causes stay, and what passed.
 */
export function discreet({ artifact, restore, data }: Proof['levels']): Proof['levels'] {
  const hidden = (level: typeof restore) => {
    if (level === undefined) return undefined
    const checks = level.checks.map((check) =>
      check.verdict === 'pass' || check.name === 'decrypt' ? check : { ...check, detail: instead },
    )
    return { ...level, checks }
  }
  const [hiddenRestore, hiddenData] = [hidden(restore), hidden(data)]
  return {
    ...(artifact === undefined ? {} : { artifact }),
    ...(hiddenRestore === undefined ? {} : { restore: hiddenRestore }),
    ...(hiddenData === undefined ? {} : { data: hiddenData }),
  }
}
