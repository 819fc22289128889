import { toFailure } from '../domain/errors.ts'

/** One line of `lifeboat check`. A `warning` costs something now or later; an `error` keeps backups or proofs from being made; `unknown`: nobody can tell. */
export interface Finding {
  readonly area:
    | 'programs'
    | 'server'
    | 'database'
    | 'work folder'
    | 'repository'
    | 'encryption'
    | 'watch'
    | 'wal'
    | 'hooks'
    | 'alerts'
    | 'clock'
    | 'schedule'
  readonly status: 'ok' | 'warning' | 'error' | 'unknown'
  readonly what: string
  /** What to do about it. */
  readonly hint?: string
}

export const ok = (area: Finding['area'], what: string): Finding => ({ area, status: 'ok', what })
export const warning = (area: Finding['area'], what: string, hint: string): Finding => ({
  area,
  status: 'warning',
  what,
  hint,
})
export const problem = (area: Finding['area'], what: string, hint: string): Finding => ({
  area,
  status: 'error',
  what,
  hint,
})

export const unknown = (area: Finding['area'], what: string, hint?: string): Finding => ({
  area,
  status: 'unknown',
  what,
  ...(hint === undefined ? {} : { hint }),
})

/** A look that fails is a finding too, and never keeps the other looks from being taken. `place`: at which repository it was. */
export async function looked(
  area: Finding['area'],
  look: () => Promise<readonly Finding[]>,
  place?: string,
): Promise<readonly Finding[]> {
  try {
    return await look()
  } catch (error) {
    const { message, hint, code } = toFailure(error)
    const what = place === undefined || message.startsWith(`${place}: `) ? message : `${place}: ${message}`
    return [{ area, status: 'error', what, hint: hint ?? `see ${code} in docs/errors.md` }]
  }
}
