import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { noEncryption } from '../../src/encryption/age.ts'
import { unpackConfig } from '../../src/jobs/restore-config.ts'
import { collectOutput } from '../../src/postgres/programs.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { publishFull } from '../support/physical.ts'
import { storedCluster } from '../support/stored.ts'

const { signal } = new AbortController()

/** Unpacks a config.tar of these files into a data directory; gives the folder that it comes into, and the warnings. */
async function unpacked(t: Test, fill: (source: string) => Promise<void>) {
  const directory = t.testdir({ source: {}, data: {}, repository: {} })
  await fill(join(directory, 'source'))
  const args = ['--create', '--file=-', '--directory', join(directory, 'source'), '.']
  const { stdout } = await collectOutput({ program: 'tar', args })
  const storage = new LocalStorage({ root: join(directory, 'repository') })
  const repository = new Repository({ name: 'local', cluster: storedCluster, storage, clock: systemClock })
  const about = { startedAt: systemClock.now(), lsn: '0/2000028', more: { 'config.tar': stdout } }
  const member = { manifest: await publishFull(repository, about), repositories: [repository] }
  const data = join(directory, 'data')
  const warnings = await unpackConfig(member, {
    dataDirectory: data,
    owner: null,
    encryption: noEncryption,
    clock: systemClock,
    signal,
  })
  return { warnings, folder: join(data, 'lifeboat-restore') }
}

t.test('the configuration comes under its whole path', async (t) => {
  const { warnings, folder } = await unpacked(t, async (source) => {
    await mkdir(join(source, 'etc/postgresql'), { recursive: true })
    await writeFile(join(source, 'etc/postgresql/pg_hba.conf'), '# hba')
  })
  t.same(warnings, [])
  t.equal(await readFile(join(folder, 'config/etc/postgresql/pg_hba.conf'), 'utf8'), '# hba')
})

t.test('an archive with a link is none, and nothing of it stays', async (t) => {
  const { warnings, folder } = await unpacked(t, async (source) => {
    await writeFile(join(source, 'pg_hba.conf'), '# hba')
    await symlink('/etc/shadow', join(source, 'pg_ident.conf'))
  })
  t.match(warnings, [/was not restored: .*"pg_ident\.conf", which is neither a directory nor a file of its own/])
  t.same(await readdir(folder), [])
})
