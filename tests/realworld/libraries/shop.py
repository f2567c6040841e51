"""Authors and their books: the tables that the apps have in common."""

from collections.abc import AsyncIterator, Callable

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, MetaData, String, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

AUTHORS, BOOKS_OF_EACH = 30, 3


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    books: Mapped[list["Book"]] = relationship(back_populates="author")

    def __str__(self) -> str:
        return self.name


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")

    def __str__(self) -> str:
        return self.title


class NewAuthor(BaseModel):
    name: str


class KnownAuthor(NewAuthor):
    model_config = ConfigDict(from_attributes=True)

    id: int


def make_tables(url: str, metadata: MetaData) -> None:
    """Make tables anew."""
    engine = create_engine(url)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    engine.dispose()


def fill(url: str) -> None:
    """Make the tables anew, with the same rows each time."""
    make_tables(url, Base.metadata)
    engine = create_engine(url)
    with Session(engine) as session:
        for number in range(AUTHORS):
            books = [Book(title=f"Volume {volume}") for volume in range(BOOKS_OF_EACH)]
            session.add(Author(name=f"Author {number}", books=books))
        session.commit()
    engine.dispose()


def sessions_of(maker: async_sessionmaker[AsyncSession]) -> Callable[[], AsyncIterator[AsyncSession]]:
    """The dependency that everybody writes."""

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with maker() as session:
            yield session

    return get_session
