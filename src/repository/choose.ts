import { LifeboatError } from '../domain/errors.ts'

/**
 * The repositories that params name: one, or all.
 *
 * @throws LifeboatError `not-found`
 */
export function chooseRepositories<T extends { readonly name: string }>(
  repositories: readonly T[],
  name: unknown,
): readonly T[] {
  if (typeof name !== 'string') return repositories
  const chosen = repositories.filter((repository) => repository.name === name)
  if (chosen.length > 0) return chosen
  throw new LifeboatError('not-found', `there is no repository ${JSON.stringify(name)}`, {
    hint: `configured are: ${repositories.map((repository) => repository.name).join(', ')}`,
  })
}
