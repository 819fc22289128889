import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import type { ValidatedConfig } from '../config/validated.ts'
import { type Finding, looked, ok, problem } from './finding.ts'

/** Looks at the program of each hook, and at the files with the URL and the key of each notification. Nothing is run or sent. */
export async function checkHooks({ hooks, notify }: ValidatedConfig): Promise<readonly Finding[]> {
  const programs = hooks.map(({ name, program }) =>
    looked('hooks', async () => {
      const why = await access(program, constants.X_OK).then(
        async () => ((await stat(program)).isFile() ? null : 'it is no file'),
        (error: Error) => error.message,
      )
      return [
        why === null
          ? ok('hooks', `${name}: ${program} can be run`)
          : problem('hooks', `${name}: ${program} cannot be run: ${why}`, `install it, or: chmod +x ${program}`),
      ]
    }),
  )
  const targets = notify.map(({ name, url, secret }) =>
    looked('hooks', async () => {
      const text = await url()
      await secret?.()
      if (URL.canParse(text) && /^https?:/.test(text))
        return [ok('hooks', `${name}: ${new URL(text).origin} is told of runs`)]
      return [
        problem('hooks', `${name}: what urlFile holds is no URL`, 'put one line that begins with https:// into it'),
      ]
    }),
  )
  return (await Promise.all([...programs, ...targets])).flat()
}
