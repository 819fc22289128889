import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { fittingScript } from '../../src/external/plain-script.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { scratchDirectory } from '../support/scratch.ts'

t.test('what sed makes of a dump', async (t) => {
  const file = join(await scratchDirectory(t), 'dump.sql')
  const fitted = async (key: string | null, ...lines: string[]) => {
    await writeFile(file, `${lines.join('\n')}\n`)
    const args = ['-E', ...fittingScript(key).flatMap((line) => ['-e', line]), '--', file]
    return (await runProgram({ program: 'sed', args, env: { LC_ALL: 'C' } })).stdout.split('\n').slice(0, -1)
  }
  const open = '\\unrestrict k'
  const shut = '\\restrict k'
  t.same(await fitted('k', '\\restrict own', 'a', '\\unrestrict own\r', 'b'), [shut, 'a', 'b'])
  const names = [
    'app',
    '"App"',
    `-reuse-previous=on "dbname='my db'"`,
    `-reuse-previous=on "dbname='it\\'s'"`,
    `-reuse-previous=on "dbname='a""b'"`,
    `-reuse-previous=on "dbname='é'"`,
  ]
  for (const name of names) {
    const line = `\\connect ${name}`
    t.same(await fitted('k', 'a', line, 'b'), [shut, 'a', open, line, shut, 'b'], line)
  }
  t.same(await fitted('k', 'a', '\\encoding SQL_ASCII'), [shut, 'a', open, '\\encoding SQL_ASCII', shut])
  const refused = [
    '`id`',
    '"`id`"',
    ':name',
    'app evil',
    'app - host',
    `-reuse-previous=on "dbname='a' host='b'"`,
    `-reuse-previous=on "dbname='a'" "x"`,
    `-reuse-previous=on "dbname='a\\\\' host=b'"`,
    `-reuse-previous=on "dbname='a" \`id\` "b'"`,
    'postgresql://127.0.0.1/app',
  ]
  for (const name of refused) {
    const line = `\\connect ${name}`
    t.same(await fitted('k', 'a', line), [shut, 'a', line], `${line} stays what psql refuses`)
  }
  t.same(await fitted('k', 'a', '\\encoding `id`'), [shut, 'a', '\\encoding `id`'])
  t.same(
    await fitted(
      null,
      `CREATE TABLESPACE "a b" OWNER x LOCATION '/srv/pg';`,
      `CREATE DATABASE app WITH TEMPLATE = template0 TABLESPACE = "a b" IS_TEMPLATE = true;`,
      'CREATE TABLE a (i int);',
      '\\connect app',
    ),
    ['CREATE DATABASE app WITH TEMPLATE = template0 IS_TEMPLATE = true;', 'CREATE TABLE a (i int);', '\\connect app'],
  )
})
