import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import t from 'tap'

t.test('a reader that has had enough is no error', async (t) => {
  const main = spawn(process.execPath, ['src/main.ts', 'help'], { stdio: ['ignore', 'pipe', 'pipe'] })
  main.stdout.destroy() // before anything is written, as `| head -0` does
  const [err, [code]] = await Promise.all([text(main.stderr), once(main, 'close')])
  t.same({ err, code }, { err: '', code: 0 })
})
