"""What the API takes and gives."""

from datetime import datetime
from typing import Annotated, Generic, Self, TypeVar

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from demo_app.models import OrderStatus

#: What a four-byte integer column can hold; a larger value would be an error of the database, not of the client.
_MAX_INTEGER = 2**31 - 1

Id = Annotated[int, Path(ge=1, le=_MAX_INTEGER)]
#: PostgreSQL stores every character but NUL.
Name = Annotated[str, Field(max_length=100, pattern=r"^[^\x00]+$")]
Email = Annotated[str, Field(max_length=200, pattern=r"^[^@\s\x00]+@[^@\s\x00]+\.[^@\s\x00]+$")]
Sku = Annotated[str, Field(max_length=40, pattern=r"^[A-Z0-9-]+$")]
Count = Annotated[int, Field(ge=0, le=_MAX_INTEGER)]


class PageQuery(BaseModel):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0, le=_MAX_INTEGER)


class ProductQuery(PageQuery):
    """Which part of the products, and which of them."""

    name: Name | None = Field(default=None, description="Part of the name.")


class OrderQuery(PageQuery):
    """Which part of the orders, and which of them."""

    customer_id: int | None = Field(default=None, ge=1, le=_MAX_INTEGER)
    status: OrderStatus | None = None


CustomerPageQuery = Annotated[PageQuery, Query()]
ProductPageQuery = Annotated[ProductQuery, Query()]
OrderPageQuery = Annotated[OrderQuery, Query()]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Change(_Body):
    """A partial update: fields left out keep their value, and null is not a value."""

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set or None in (getattr(self, name) for name in self.model_fields_set):
            raise ValueError("give at least one field, and a value for each")
        return self

    def apply(self, row: object) -> None:
        """Set the given fields on a row."""
        for name in self.model_fields_set:
            setattr(row, name, getattr(self, name))


class CustomerCreate(_Body):
    """A new customer."""

    name: Name
    email: Email


class CustomerChange(_Change):
    """What to change of a customer."""

    name: Name | None = None
    email: Email | None = None


class ProductCreate(_Body):
    """A new product."""

    sku: Sku
    name: Name
    price_cents: Count
    stock: Count = 0


class ProductChange(_Change):
    """What to change of a product."""

    name: Name | None = None
    price_cents: Count | None = None
    stock: Count | None = None


class OrderLineCreate(_Body):
    """One product of a new order."""

    product_id: int = Field(ge=1, le=_MAX_INTEGER)
    quantity: int = Field(ge=1, le=10_000)


class OrderCreate(_Body):
    """A new order."""

    customer_id: int = Field(ge=1, le=_MAX_INTEGER)
    lines: list[OrderLineCreate] = Field(min_length=1, max_length=5)

    @model_validator(mode="after")
    def _names_each_product_once(self) -> Self:
        if len({line.product_id for line in self.lines}) < len(self.lines):
            raise ValueError("name each product once")
        return self

    def in_lock_order(self) -> list[OrderLineCreate]:
        """The lines by product: orders that lock their products in the same order cannot deadlock."""
        return sorted(self.lines, key=lambda line: line.product_id)


class OrderChange(_Body):
    """The next status of an order."""

    status: OrderStatus


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class CustomerAnswer(_Answer):
    """A customer."""

    id: int
    name: str
    email: str


class ProductAnswer(_Answer):
    """A product."""

    id: int
    sku: str
    name: str
    price_cents: int
    stock: int


class OrderLineAnswer(_Answer):
    """One product of an order."""

    product_id: int
    quantity: int
    price_cents: int


class OrderAnswer(_Answer):
    """An order with its lines."""

    id: int
    customer_id: int
    status: OrderStatus
    placed_at: datetime
    total_cents: int
    lines: list[OrderLineAnswer]


Item = TypeVar("Item", bound=BaseModel)


class PageAnswer(BaseModel, Generic[Item]):
    """A part of a list, and how long the whole list is."""

    items: list[Item]
    total: int
